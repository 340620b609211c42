import { expect, test } from "vitest";
import { controlPlaneUsd, type Cluster } from "./models";
import { clusterEveryMs } from "./queries";

const run = (usd_per_h: number) => ({ started: 0, micro_usd: 0, usd_per_h });

test("the control plane costs what is left of all that runs, beside the models' machines", () => {
  const models = (...rates: (number | null)[]) =>
    rates.map((rate) => ({ run: rate === null ? null : run(rate) })) as Cluster["models"];
  expect(controlPlaneUsd({ run: run(1.0279), models: models(1.0042, null) })).toBe(0.0237);
  expect(controlPlaneUsd({ run: run(0.0237), models: models(null) })).toBe(0.0237);
  expect(controlPlaneUsd({ run: run(0.1 + 0.2), models: models(0.1, 0.2) })).toBe(0);
  expect(controlPlaneUsd({ run: null, models: [] })).toBe(0);
});

test("what runs is watched more closely than what sleeps", () => {
  expect(clusterEveryMs({ run: run(1) })).toBeLessThan(clusterEveryMs({ run: null }));
  expect(clusterEveryMs(undefined)).toBe(clusterEveryMs({ run: null }));
});
