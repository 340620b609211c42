import type { UsageRow } from "@/api/usage";
import { expect, test } from "vitest";
import { speedsOf } from "./speeds";

const row = (hour: string, completion_tokens: number, busy_seconds: number): UsageRow => ({
  hour,
  completion_tokens,
  busy_seconds,
  micro_usd: 0,
  requests: 1,
  prompt_tokens: 0,
  cached_tokens: 0,
  reasoning_tokens: 0,
  gpu_seconds: busy_seconds,
});

test("speeds are by the hour, in whatever zone the hour is told, and those without use are 0", () => {
  const now = Date.parse("2026-11-29T10:20:00Z");
  const speeds = speedsOf(
    [
      row("2026-11-29T11:00:00+01:00", 600, 10),
      row("2026-11-29T13:00:00+05:00", 90, 3),
      row("2026-11-27T10:00:00Z", 9, 1),
    ],
    now,
  );
  expect(speeds).toHaveLength(24);
  expect(speeds.slice(-3)).toEqual([30, 0, 60]);
  expect(speeds.slice(0, -3).every((value) => value === 0)).toBe(true);
});

test("tokens of no time at all make no speed", () => {
  expect(speedsOf([row("2026-11-29T10:00:00Z", 5, 0)], Date.parse("2026-11-29T10:20:00Z")).at(-1)).toBe(0);
});
