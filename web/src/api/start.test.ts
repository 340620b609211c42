import { modelOf } from "@/testing/models";
import { describe, expect, test } from "vitest";
import type { Model, PhaseEntry } from "./models";
import { leftInWords, progressOf, spentUsd } from "./start";

const T0 = 1_700_000_000;

function starting(start: Partial<NonNullable<Model["start"]>>): Model {
  const begun = { phase: "load", elapsed_s: 100, eta_s: null, eta: null, phases: [] };
  return modelOf({ status: "starting", start: { ...begun, ...start } });
}

const phase = (name: string, started: number, rest: Partial<PhaseEntry> = {}): PhaseEntry => ({
  phase: name,
  started_at: T0 + started,
  ...rest,
});

describe("a start's progress", () => {
  test("is the server's estimate where nothing of phases is known", () => {
    const progress = progressOf(starting({ eta_s: 100 }), T0);
    expect(progress?.share).toBeCloseTo(0.5, 1);
    expect(progress?.leftS).toEqual({ low: 100, high: 100 });
  });

  test("counts down between two looks", () => {
    const phases = [phase("instance", -100), phase("load", -20)];
    const model = starting({ eta: { low: 60, high: 90, samples: 4 }, phases });
    expect(progressOf(model, T0 + 30)?.leftS).toEqual({ low: 30, high: 60 });
    expect(progressOf(model, T0 + 300)?.leftS).toEqual({ low: 0, high: 0 });
  });

  test("goes by the bytes where they are told, and never backwards with time", () => {
    const at = (done: number) =>
      progressOf(
        starting({
          phases: [phase("instance", -100), phase("weights", -50, { done_bytes: done, total_bytes: 100, p50_s: 60 })],
        }),
        T0,
      )?.share ?? 0;
    expect(at(0)).toBeLessThan(at(50));
    expect(at(50)).toBeLessThan(at(95));
  });

  test("is never all of it: ready is another state", () => {
    expect(progressOf(starting({ eta_s: 0, elapsed_s: 9999 }), T0)?.share).toBeLessThan(1);
    expect(progressOf(starting({ phase: "warmup", phases: [phase("warmup", -9999)] }), T0)?.share).toBeLessThan(1);
  });

  test.each([
    [10, "usual"],
    [65, "slow"],
    [125, "stuck"],
  ])("%d s into a phase of 60 s at most is %s", (elapsed, pace) => {
    const phases = [phase("load", -elapsed, { p50_s: 40, p90_s: 60 })];
    expect(progressOf(starting({ elapsed_s: elapsed, phases }), T0)?.pace).toBe(pace);
  });

  test("shows what is done, what goes on, and what is ahead", () => {
    const phases = [phase("instance", -100), phase("weights", -40, { done_bytes: 16.4e9, total_bytes: 32.8e9 })];
    const steps = progressOf(starting({ phases }), T0)?.steps ?? [];
    expect(steps.map(({ phase, state }) => `${phase} ${state}`)).toEqual([
      "instance done",
      "weights now",
      "load ahead",
      "compile ahead",
      "warmup ahead",
    ]);
    expect(steps[0]?.seconds).toBe(60);
    expect(steps[1]?.detail).toBe("16.4 GB of 32.8 GB");
  });

  test("weighs the phases by what they usually take, those ahead too", () => {
    const told = [phase("instance", -40, { p50_s: 40 }), phase("load", 0, { p50_s: 20 })];
    const ahead = { phase: "compile", started_at: 0, p50_s: 140 };
    const progress = progressOf(starting({ elapsed_s: 40, phases: [...told, ahead] }), T0);
    expect(progress?.share).toBeCloseTo(0.2);
    expect(progress?.steps.map(({ phase, state }) => `${phase} ${state}`)).toEqual([
      "instance done",
      "load now",
      "compile ahead",
    ]);
  });

  test("is none of a model that does not start", () => {
    expect(progressOf(modelOf(), T0)).toBeNull();
  });
});

test("what is left is said as one would say it", () => {
  const words = (start: Partial<NonNullable<Model["start"]>>, samples: number | null = null) => {
    const progress = progressOf(starting(start), T0);
    return progress ? leftInWords(progress, samples) : "";
  };
  expect(words({ eta_s: 90 })).toBe("About 1½ min left.");
  expect(words({ eta: { low: 60, high: 180, samples: 7 } }, 7)).toBe(
    "About 1 min to 3 min left, by the last 7 starts.",
  );
  expect(words({ eta_s: 2 })).toBe("Any moment now.");
  expect(words({ elapsed_s: 3 })).toMatch(/First start/);
});

test("what is spent grows with time from what the server has counted", () => {
  const model = modelOf({ run: { started: T0 - 3600, usd_per_h: 1.8, micro_usd: 1_700_000 } });
  expect(spentUsd(model, T0)).toBeCloseTo(1.8);
  expect(spentUsd(modelOf(), T0)).toBeNull();
});
