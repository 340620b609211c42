import { CHAT } from "@/testing/chat";
import { expect, test } from "vitest";
import { choose, pathOf, promptFor, siblingsOf, titleOf, type Message } from "./conversation";

function message(id: string, parentId: string | null, role: Message["role"], changes: Partial<Message> = {}): Message {
  const at = { conversationId: "c", createdAt: Number(id.replace(/\D/g, "")) };
  return { id, parentId, role, text: id, reasoning: "", images: [], status: "done", ...at, ...changes };
}

//  u1 ─ a2 ─ u4
//     └ a3
const TREE = [
  message("u1", null, "user"),
  message("a2", "u1", "assistant"),
  message("a3", "u1", "assistant"),
  message("u4", "a2", "user"),
];

const ids = (messages: readonly Message[]) => messages.map(({ id }) => id);

test("the newest branch is shown, unless another was chosen", () => {
  expect(ids(pathOf(TREE, {}))).toEqual(["u1", "a3"]);
  const chosen = choose(CHAT, TREE[1] as Message).chosen;
  expect(ids(pathOf(TREE, chosen))).toEqual(["u1", "a2", "u4"]);
});

test("what stands in one place are versions of each other", () => {
  expect(ids(siblingsOf(TREE, TREE[2] as Message))).toEqual(["a2", "a3"]);
  expect(ids(siblingsOf(TREE, TREE[0] as Message))).toEqual(["u1"]);
});

test("the model hears its own branch only, the system prompt first", () => {
  const prompt = promptFor({ ...CHAT, system: "Be brief." }, TREE, "u4");
  expect(prompt).toEqual([
    { role: "system", content: "Be brief." },
    { role: "user", content: "u1" },
    { role: "assistant", content: "a2" },
    { role: "user", content: "u4" },
  ]);
});

test.each(["failed", "stopped", "done"] as const)("what got no answer is left out with its question: %s", (status) => {
  const nothing = message("a5", "u4", "assistant", { text: "", status });
  const told = promptFor(CHAT, [...TREE, nothing, message("u6", "a5", "user")], "u6");
  expect(told.map(({ content }) => content)).toEqual(["u1", "a2", "u6"]);
});

test("the question itself is told when its answer is asked for again", () => {
  const tree = [...TREE, message("a5", "u4", "assistant", { text: "", status: "failed" })];
  expect(promptFor(CHAT, tree, "u4").map(({ content }) => content)).toEqual(["u1", "a2", "u4"]);
});

test("pictures go before the words", () => {
  const asked = message("u1", null, "user", { images: ["data:image/png;base64,AA"] });
  expect(promptFor(CHAT, [asked], "u1")[0]?.content).toEqual([
    { type: "image_url", image_url: { url: "data:image/png;base64,AA" } },
    { type: "text", text: "u1" },
  ]);
});

test("a ring, as a broken import may hold, ends", () => {
  const ring = [message("u1", null, "user"), message("a2", "u1", "assistant"), message("a2", "a2", "user")];
  expect(pathOf(ring, {}).length).toBeLessThanOrEqual(ring.length);
});

test("a chat is named by the first words", () => {
  expect(titleOf("  How\n do I  sort? ")).toBe("How do I sort?");
  expect(titleOf("word ".repeat(40))).toMatch(/^(word )+word…$/);
});
