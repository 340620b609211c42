import { modelOf } from "@/testing/models";
import { expect, test } from "vitest";
import { differences, formOf, patchOf, problemsOf, pulumiHint } from "./form";
import { untilOf } from "./keep-awake";
import { linesFor, quoted } from "./pulumi-lines";

const config = { name: "small", instanceTypes: ["g5.xlarge"], idleTimeout: 600, vllmArgs: "--max-model-len 4096" };
const model = modelOf({ config, override: { idleTimeout: 900 }, effective: { ...config, idleTimeout: 900 } });
const form = formOf(model);

test("the form shows what holds", () => {
  expect(form).toMatchObject({ idleMinutes: "15", vllmArgs: "--max-model-len 4096", maxInstances: "1" });
  expect(problemsOf(form)).toEqual({});
  expect(patchOf(model, form)).toEqual({});
});

test("only what changed is sent, and what is Pulumi's again is taken back", () => {
  expect(patchOf(model, { ...form, maxInstances: "2" })).toEqual({ maxInstances: 2 });
  expect(patchOf(model, { ...form, idleMinutes: "10" })).toEqual({ idleTimeout: null });
});

test.each([
  [{ idleMinutes: "0" }, "idleMinutes"],
  [{ idleMinutes: "soon" }, "idleMinutes"],
  [{ idleMinutes: "1441" }, "idleMinutes"],
  [{ maxInstances: "9" }, "maxInstances"],
  [{ maxInstances: "1.5" }, "maxInstances"],
  [{ vllmArgs: "--port 80" }, "vllmArgs"],
  [{ vllmArgs: "--api-key=x" }, "vllmArgs"],
  [{ vllmArgs: "--chat-template 'a" }, "vllmArgs"],
  [{ instanceTypes: "big" }, "instanceTypes"],
  [{ instanceTypes: " " }, "instanceTypes"],
])("%j cannot be", (changed, key) => {
  expect(Object.keys(problemsOf({ ...form, ...changed }))).toEqual([key]);
});

test("warm hours are sent when they changed, and not for a zone that was left out", () => {
  const hours = [{ cron: "0 9 * * 1-5", minutes: 480 }];
  const warm = modelOf({ config: { ...config, warmHours: hours }, effective: { ...config, warmHours: hours } });
  const shown = formOf(warm);
  expect(shown.warmHours).toEqual([{ days: "1-5", time: "09:00", cron: "0 9 * * 1-5", hours: "8", zone: "UTC" }]);
  expect(patchOf(warm, shown)).toEqual({});
  expect(patchOf(warm, { ...shown, warmHours: [] })).toEqual({ warmHours: [] });
  const changed = { ...warm, effective: { ...warm.effective, warmHours: [] } };
  expect(patchOf(changed, shown)).toEqual({ warmHours: null });
  expect(problemsOf({ ...shown, warmHours: [{ ...shown.warmHours[0]!, hours: "0" }] })).toHaveProperty("warmHours");
});

test("each field says what Pulumi has, where the form differs", () => {
  expect(pulumiHint(config, form, "idleTimeout")).toBe("Pulumi: 10 min");
  expect(pulumiHint(config, { ...form, idleMinutes: "10" }, "idleTimeout")).toBe("");
  expect(pulumiHint({ ...config, vllmArgs: "" }, form, "vllmArgs")).toBe("Pulumi: none");
});

test("quotes that close are fine", () => {
  expect(problemsOf({ ...form, vllmArgs: `--limit-mm-per-prompt '{"image": 2}' --x "it's"` })).toEqual({});
});

test("what differs from Pulumi is told with both values", () => {
  expect(differences(model.config, model.override)).toEqual([
    { key: "idleTimeout", label: "Idle timeout", pulumi: "10 min", here: "15 min" },
  ]);
});

test("the lines for Pulumi set what changed, and take away from the end", () => {
  const before = { ...config, instanceTypes: ["g5.xlarge", "g6.xlarge", "g5.2xlarge"] };
  expect(linesFor(1, before, { instanceTypes: ["g6.xlarge"], market: "spot" })).toEqual([
    "pulumi config set --path 'diogenes:models[1].instanceTypes[0]' g6.xlarge",
    "pulumi config rm --path 'diogenes:models[1].instanceTypes[2]'",
    "pulumi config rm --path 'diogenes:models[1].instanceTypes[1]'",
    "pulumi config set --path 'diogenes:models[1].market' spot",
    "pulumi up",
  ]);
  const hours = { cron: "0 9 * * 1-5", minutes: 480, zone: "UTC" };
  expect(linesFor(0, config, { warmHours: [hours] }).slice(0, 2)).toEqual([
    "pulumi config set --path 'diogenes:models[0].warmHours[0].cron' '0 9 * * 1-5'",
    "pulumi config set --path 'diogenes:models[0].warmHours[0].minutes' 480",
  ]);
  expect(linesFor("N", config, { market: "spot" })[0]).toContain("'diogenes:models[N].market'");
  expect(linesFor(0, config, { instanceTypes: ["g5.xlarge"] })).toEqual([]);
});

test("what a shell would take apart is quoted", () => {
  expect(quoted("g6.xlarge")).toBe("g6.xlarge");
  expect(quoted("--x 'y'")).toBe(String.raw`'--x '\''y'\'''`);
  expect(quoted("$(rm -r /)")).toBe("'$(rm -r /)'");
});

test("until a time of day is the next time that the clock shows it", () => {
  const noon = new Date(2026, 10, 29, 12).getTime() / 1000;
  expect(untilOf("4", noon)).toBe(noon + 4 * 3600);
  expect(untilOf("18:00", noon)).toBe(noon + 6 * 3600);
  expect(untilOf("18:00", noon + 7 * 3600)).toBe(noon + 30 * 3600);
});
