import { expect, test } from "vitest";
import { parseReturned, safeReturn } from "./session";

test("a provider's answer is taken from the fragment or the query", () => {
  expect(parseReturned("#id_token=t&state=s", "")).toEqual({ state: "s", id_token: "t" });
  expect(parseReturned("", "?code=c&state=s")).toEqual({ state: "s", code: "c" });
  expect(parseReturned("#error=access_denied", "")).toBe("access_denied");
  expect(parseReturned("", "")).toMatch(/nothing/);
});

test.each([null, undefined, "", "https://evil.test", "//evil.test", "/\\evil.test", "/signin?x", "chat"])(
  "%s is no place to go back to",
  (path) => expect(safeReturn(path)).toBe("/chat"),
);

test("a path of ours is", () => {
  expect(safeReturn("/models/Qwen/Qwen3?x=1")).toBe("/models/Qwen/Qwen3?x=1");
});
