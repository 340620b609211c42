import { CHAT as NEW_CHAT } from "@/testing/chat";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Conversation, Message } from "./conversation";
import { Database, editOf, NEW, outgoingOf } from "./database";

const CHAT: Conversation = { ...NEW_CHAT, title: "Hello" };
const QUESTION: Message = {
  id: "q",
  conversationId: "c",
  parentId: null,
  role: "user",
  text: "Hello",
  reasoning: "",
  images: [],
  status: "done",
  createdAt: 1,
};
const ORDER = outgoingOf({ id: "a", conversationId: "c", model: "small", queuedAt: 0 });
const draft = (text: string) => ({ text, images: [] });

let database: Database;
let other: Database; // another tab
let n = 0;

beforeEach(async () => {
  const name = `database-${++n}`;
  [database, other] = [await Database.open(name, "one"), await Database.open(name, "two")];
});
afterEach(() => [database, other].forEach((each) => each.close()));

test("a question leaves what is written in the same chat alone", async () => {
  await database.putDraft("c", draft("half a thought"));
  await database.ask(CHAT, [QUESTION], ORDER); // an answer again, or an edited question
  expect((await database.draft("c")).text).toBe("half a thought");
});

test("each tab has a new chat's draft of its own, and asking in one leaves the other's", async () => {
  await database.putDraft(NEW, draft("foo"));
  await other.putDraft(NEW, draft("bar"));
  expect([(await database.draft(NEW)).text, (await other.draft(NEW)).text]).toEqual(["foo", "bar"]);
  await database.dropDraft(NEW, "foo");
  expect((await other.draft(NEW)).text).toBe("bar");
  await other.dropDraft(NEW, "bar");
  expect([(await database.draft(NEW)).text, (await other.draft(NEW)).text]).toEqual(["", ""]);
});

test("what a closed tab had written is found in the next one, until it is asked there", async () => {
  await database.putDraft(NEW, draft("foo"));
  expect((await other.draft(NEW)).text).toBe("foo");
  await other.dropDraft(NEW, "foo");
  expect((await other.draft(NEW)).text).toBe("");
});

test("a chat goes with the drafts of its edits", async () => {
  await database.ask(CHAT, [QUESTION], ORDER);
  await database.putDraft(editOf("q"), draft("Hello?"));
  await database.remove("c");
  expect((await database.draft(editOf("q"))).text).toBe("");
});

test("an import never overwrites a message that is here, under whichever chat it comes", async () => {
  await database.ask(CHAT, [QUESTION], ORDER);
  const theirs = { ...CHAT, id: "d" };
  const came = await database.add([theirs, CHAT], [{ ...QUESTION, conversationId: "d", text: "Forged" }]);
  expect([came, (await database.message("q"))?.text]).toEqual([1, "Hello"]);
});
