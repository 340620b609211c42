import type { Instance } from "@/api/models";
import { expect, test } from "vitest";
import { servingOf, stateInWords } from "./instances";

const INSTANCE: Instance = {
  instance_id: "i-1",
  status: "starting",
  instance_type: "g5.xlarge",
  zone: "eu-west-1a",
  market: "on-demand",
  launched_at: 0,
  ready_at: null,
  age_s: 0,
  phases: [],
  running_requests: 0,
  reason: null,
  error: null,
};

test("a machine on its way says where it is", () => {
  expect(stateInWords(INSTANCE)).toBe("Asking AWS for a machine");
  expect(stateInWords({ ...INSTANCE, phases: [{ phase: "weights", started_at: 1 }] })).toBe("Fetching the weights");
});

test("one that goes or failed says why, one that is ready needs no reason", () => {
  expect(stateInWords({ ...INSTANCE, status: "draining", reason: "idle" })).toBe("Going to sleep: idle");
  expect(stateInWords({ ...INSTANCE, status: "failed", reason: "out of memory" })).toBe("Failed: out of memory");
  expect(stateInWords({ ...INSTANCE, status: "ready", reason: "x" })).toBe("Ready");
});

test("one more is one more than serve, not than are still listed", () => {
  const listed = ["ready", "starting", "draining", "failed", "terminated"].map((status) => ({ status }));
  expect(servingOf(listed)).toBe(2);
});
