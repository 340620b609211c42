import type { UsageRow } from "@/api/usage";
import { daysBefore } from "@/lib/days";
import { niceCeiling } from "@/ui/charts";
import { expect, test } from "vitest";
import { agrees, barsOf, dollarsOf, keyInWords, OTHERS, scopeInWords, sumOf } from "./table";

function row(changes: Partial<UsageRow>): UsageRow {
  const tokens = { prompt_tokens: 10, cached_tokens: 0, completion_tokens: 5, reasoning_tokens: 0 };
  return { micro_usd: 100, requests: 1, gpu_seconds: 3.5, busy_seconds: 2, ...tokens, ...changes };
}

test("rows add up exactly, and a difference of one is seen", () => {
  const rows = [row({ micro_usd: 333_333 }), row({ micro_usd: 666_668 })];
  const total = sumOf(rows);
  expect(total.micro_usd).toBe(1_000_001);
  expect(agrees(rows, total)).toBe(true);
  expect(agrees(rows, { ...total, micro_usd: 1_000_000 })).toBe(false);
});

test("bars hold every day, and what the rows hold", () => {
  const series = [
    { name: "a", rows: [row({ day: "2026-11-02", micro_usd: 5 })] },
    { name: "b", rows: [row({ day: "2026-11-02", micro_usd: 7 }), row({ day: "2026-11-03", micro_usd: 1 })] },
  ];
  const { bars, names } = barsOf(["2026-11-01", "2026-11-02", "2026-11-03"], series, "micro_usd");
  expect(names).toEqual(["b", "a"]);
  expect(bars.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0))).toEqual([0, 12, 1]);
});

test("beyond five the smallest are others, and nothing is lost", () => {
  const series = Array.from({ length: 8 }, (_, i) => ({
    name: `m${i}`,
    rows: [row({ day: "2026-11-02", micro_usd: i + 1 })],
  }));
  const { bars, names } = barsOf(["2026-11-02"], series, "micro_usd");
  expect(names).toEqual(["m7", "m6", "m5", "m4", OTHERS]);
  expect(bars[0]?.parts.reduce((sum, { value }) => sum + value, 0)).toBe(36);
});

test("days are the calendar's, also where one has 23 or 25 hours", () => {
  for (const at of [new Date(2026, 2, 30, 0, 30), new Date(2026, 9, 26, 23, 30), new Date(2026, 0, 1, 3)]) {
    const days = daysBefore(at.getTime(), 10);
    expect(new Set(days).size).toBe(10);
    const steps = days.slice(1).map((day, i) => Date.parse(day) - Date.parse(days[i] ?? ""));
    expect(new Set(steps)).toEqual(new Set([24 * 3600 * 1000]));
  }
});

test("scales end at round numbers", () => {
  expect([0, 0.7, 1, 1.2, 3, 42, 99, 1000].map(niceCeiling)).toEqual([1, 1, 1, 2, 5, 50, 100, 1000]);
});

test("budgets are named as one says them, keys by their names", () => {
  const keys = new Map([["k1", "laptop"]]);
  expect(
    ["deployment", "speculative", "user:a@b.c", "key:k1", "key:gone"].map((each) => scopeInWords(each, keys)),
  ).toEqual(["Everything", "Starts ahead of a question", "a@b.c", "Key laptop", "Key gone"]);
});

test("a budget is a sum of dollars", () => {
  expect(["12", " 2,5 ", "0", "-1", "", "much", "1000001"].map(dollarsOf)).toEqual([
    12,
    2.5,
    null,
    null,
    null,
    null,
    null,
  ]);
});

test("use without a key is the browser's, and what nobody asked for is nobody's", () => {
  const keys = new Map([["k1", "laptop"]]);
  const told = [
    { key: "k1", owner: "a@b.c" },
    { key: "gone", owner: "a@b.c" },
    { key: "", owner: "a@b.c" },
    { key: "", owner: "deployment" },
  ].map((each) => keyInWords(row(each), keys));
  expect(told).toEqual(["laptop", "gone", "in the browser: a@b.c", "nobody: warm hours, idle time"]);
});
