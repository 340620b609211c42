// One question by the stock client, with its default settings: OPENAI_BASE_URL and OPENAI_API_KEY say whom,
// `ask.mjs [--stream] -- MODEL PROMPT` says what. However the answer ended, it is told as one line of JSON.

import { parseArgs } from "node:util";

import OpenAI from "openai";

const { values, positionals } = parseArgs({
  options: { stream: { type: "boolean", default: false } },
  allowPositionals: true,
});
if (positionals.length !== 2) throw new Error("usage: ask.mjs [--stream] -- MODEL PROMPT");
const [model, content] = positionals;
const question = { model, messages: [{ role: "user", content }] };

const completions = new OpenAI().chat.completions; // out here: no client at all is no answer, but a crash
const answer = { text: "", error: "", status: 0, node: "" };
try {
  if (values.stream) {
    for await (const chunk of await completions.create({ ...question, stream: true })) {
      for (const choice of chunk.choices) answer.text += choice.delta.content ?? "";
    }
  } else {
    const { data, response } = await completions.create(question).withResponse();
    answer.text = data.choices[0].message.content ?? "";
    answer.node = response.headers.get("x-diogenes-node") ?? "";
  }
} catch (error) {
  // Not only the client's own errors: a stream that is cut ends in a bare TypeError of fetch.
  answer.error = String(error.code || error.constructor.name);
  answer.status = error.status ?? 0;
}
console.log(JSON.stringify(answer));
