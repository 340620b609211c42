import { http, HttpResponse } from "msw";
import { setupServer } from "msw/node";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { chat, deltasOf, type Delta } from "./chat";
import { setApiBase } from "./client";
import type { ApiError } from "./errors";

const server = setupServer();
const CHAT_URL = "http://diogenes.test/v1/chat/completions";

beforeAll(() => {
  setApiBase("http://diogenes.test");
  server.listen({ onUnhandledRequest: "error" });
});
afterEach(() => server.resetHandlers());
afterAll(() => server.close());

const chunk = (choice: object) => `data: ${JSON.stringify({ choices: [choice] })}\n\n`;

function streams(text: string): void {
  server.use(http.post(CHAT_URL, () => new HttpResponse(text, { headers: { "Content-Type": "text/event-stream" } })));
}

async function answer(): Promise<Delta[]> {
  const all: Delta[] = [];
  for await (const delta of chat({ model: "small", messages: [] }, new AbortController().signal)) all.push(delta);
  return all;
}

async function failure(): Promise<ApiError> {
  return await answer().then(
    () => {
      throw new Error("it did not fail");
    },
    (error: ApiError) => error,
  );
}

test("an answer is its pieces, its end and its tokens", async () => {
  const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
  streams(
    `: diogenes phase=load\n\n${chunk({ delta: { role: "assistant", content: "" } })}${chunk({ delta: { reasoning: "Hm" } })}` +
      `${chunk({ delta: { content: "Hi" } })}${chunk({ delta: {}, finish_reason: "stop" })}` +
      `data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`,
  );
  expect(await answer()).toEqual([
    { kind: "reasoning", text: "Hm" },
    { kind: "text", text: "Hi" },
    { kind: "finish", reason: "stop" },
    { kind: "usage", usage: { prompt_tokens: 3, completion_tokens: 2 } },
  ]);
});

test("an error after the first byte is an error with its code", async () => {
  streams(
    `${chunk({ delta: { content: "Hi" } })}data: {"error":{"message":"Gone.","code":"engine_lost"}}\n\ndata: [DONE]\n\n`,
  );
  expect(await failure()).toMatchObject({ code: "engine_lost", message: "Gone." });
});

test("an answer that ends without its mark has been cut", async () => {
  streams(chunk({ delta: { content: "Hi" } }));
  expect(await failure()).toMatchObject({ code: "connection_lost" });
});

test("a refusal has its status, code and when to come back", async () => {
  const body = { error: { message: "Not yet.", code: "model_starting", eta_s: 40 } };
  server.use(http.post(CHAT_URL, () => HttpResponse.json(body, { status: 503, headers: { "Retry-After": "5" } })));
  expect(await failure()).toMatchObject({
    status: 503,
    code: "model_starting",
    retryAfterS: 5,
    details: { eta_s: 40 },
  });
});

test("no network is told as such", async () => {
  server.use(http.post(CHAT_URL, () => HttpResponse.error()));
  expect(await failure()).toMatchObject({ status: 0, code: "offline" });
});

test("the request proves that it is ours, asks for tokens, and does not wait for a start", async () => {
  let seen: Request | undefined;
  server.use(
    http.post(CHAT_URL, ({ request }) => {
      seen = request.clone();
      return new HttpResponse("data: [DONE]\n\n");
    }),
  );
  await answer();
  expect(seen?.headers.get("X-Diogenes-Csrf")).toBe("1");
  expect(seen?.headers.get("X-Diogenes-Wait")).toBe("20");
  expect(await seen?.json()).toMatchObject({ stream: true, stream_options: { include_usage: true } });
});

test("the older name of reasoning is understood", () => {
  expect(deltasOf('{"choices":[{"delta":{"reasoning_content":"so"}}]}')).toEqual([{ kind: "reasoning", text: "so" }]);
});
