import { expect, test } from "vitest";
import { fromJson, toJson, toMarkdown, type Archive } from "./archive";

const ARCHIVE: Archive = {
  conversations: [
    {
      id: "c",
      title: "Jars",
      titled: true,
      model: "small",
      system: "Be brief.",
      params: { temperature: 0 },
      chosen: {},
      createdAt: 1,
      updatedAt: 2,
    },
  ],
  messages: [
    {
      id: "q",
      conversationId: "c",
      parentId: null,
      role: "user",
      text: "Hi",
      reasoning: "",
      images: [],
      status: "done",
      createdAt: 1,
    },
    {
      id: "a",
      conversationId: "c",
      parentId: "q",
      role: "assistant",
      text: "Yes.",
      reasoning: "",
      images: [],
      status: "done",
      createdAt: 2,
      model: "small",
    },
  ],
};

test("what was exported comes back as it was", () => {
  expect(fromJson(toJson(ARCHIVE))).toEqual(ARCHIVE);
});

test.each(["", "{}", "[1]", '{"format":"other"}', '{"format":"diogenes-chats-1","conversations":[{}]}'])(
  "what is no export is refused in words: %s",
  (text) => expect(() => fromJson(text)).toThrow(/JSON|exported|no id/),
);

test("an answer that was under way is not under way here, and addresses of pictures are dropped", () => {
  const [question, answer] = ARCHIVE.messages;
  const messages = [
    { ...question, images: ["https://evil.test/x.png", "data:image/png;base64,AA"] },
    { ...answer, status: "streaming" },
  ];
  const read = fromJson(JSON.stringify({ format: "diogenes-chats-1", conversations: ARCHIVE.conversations, messages }));
  expect(read.messages.map(({ status }) => status)).toEqual(["done", "done"]);
  expect(read.messages[0]?.images).toEqual(["data:image/png;base64,AA"]);
});

test("figures and errors that are none are left out: the page that shows them would break", () => {
  const [question, answer] = ARCHIVE.messages;
  const good = { usage: { prompt_tokens: 4, completion_tokens: 3 }, tokensPerS: 9, error: { code: "x", message: "y" } };
  const bad = { error: "x", usage: { prompt_tokens: "4" }, tokensPerS: "x", model: 7, usd: null, finish: {}, other: 1 };
  const messages = [
    { ...question, ...bad },
    { ...answer, ...good, id: "b" },
  ];
  const conversations = [{ ...ARCHIVE.conversations[0], params: { temperature: "hot", topP: 1 }, chosen: { root: 3 } }];
  const read = fromJson(JSON.stringify({ format: "diogenes-chats-1", conversations, messages }));
  expect(read.messages).toEqual([question, { ...answer, ...good, id: "b" }]);
  expect(read.conversations[0]).toMatchObject({ params: { topP: 1 }, chosen: {} });
  expect(read.conversations[0]?.params).toEqual({ topP: 1 });
});

test("a chat reads as Markdown", () => {
  expect(toMarkdown(ARCHIVE.conversations[0]!, ARCHIVE.messages)).toBe(
    "# Jars\n\n> Be brief.\n\n## You\n\nHi\n\n## small\n\nYes.\n",
  );
});
