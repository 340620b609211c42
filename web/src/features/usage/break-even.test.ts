import type { BreakEven } from "@/api/usage";
import { expect, test } from "vitest";
import { inWords } from "./break-even";

const TOLD: BreakEven = {
  from: "2026-11-01",
  to: "2026-11-29",
  zone: "UTC",
  micro_usd: 3_400_000,
  tokens: 1_200_000,
  usd_per_million_tokens: 2.8333,
  tokens_per_gpu_hour: 410_000,
  prices: { date: "2026-11-01", source: "lists" },
  closed: [],
};

test("what tokens cost here is told by the million, with the pace at which they were made", () => {
  expect(inWords(TOLD)).toBe("1.2M tokens cost $3.40 here: $2.83 a million, at 410k tokens an hour on a GPU.");
});

test("without a machine of ours there is no pace", () => {
  expect(inWords({ ...TOLD, tokens_per_gpu_hour: null })).toBe("1.2M tokens cost $3.40 here: $2.83 a million.");
});
