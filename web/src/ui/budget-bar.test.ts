import type { Budget } from "@/api/usage";
import { expect, test } from "vitest";
import { shareOf, stateInWords } from "./budget-bar";

const budget = (changes: Partial<Budget>): Budget => ({
  scope: "deployment",
  limit: 10_000_000,
  hard_cap: 12_000_000,
  warn_at: 8_000_000,
  spent: 0,
  state: "ok",
  ...changes,
});

test.each([
  ["ok", ""],
  ["warn", "more than 80 % spent"],
  ["exhausted", "spent: nothing new is started"],
  ["capped", "beyond the hard cap: nothing is answered"],
] as const)("%s follows in words", (state, words) => {
  expect(stateInWords(budget({ state }))).toBe(words);
});

test("a budget of nothing is spent", () => {
  expect(shareOf(budget({ spent: 2_500_000 }))).toBe(25);
  expect(shareOf(budget({ limit: 0 }))).toBe(100);
});
