import { modelOf } from "@/testing/models";
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { differences, edited, formOf, patchOf, problemsOf, pulumiHint, savedInWords, unsaved } from "./form";
import { untilOf } from "./keep-awake";
import { FIRST_MODEL, linesFor, placeOf, quoted } from "./pulumi-lines";

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

test("a cron line in other words is no change", () => {
  for (const cron of ["0 9 * * mon-fri", "00 09 * * 1-5", " 0 9 * * MON-FRI "]) {
    const hours = [{ cron, minutes: 480, zone: "Europe/Berlin" }];
    const warm = modelOf({ config: { ...config, warmHours: hours }, effective: { ...config, warmHours: hours } });
    const shown = formOf(warm);
    expect(patchOf(warm, shown)).toEqual({});
    expect(pulumiHint(warm.config, shown, "warmHours")).toBe("");
    expect(patchOf(warm, { ...shown, idleMinutes: "7" })).toEqual({ idleTimeout: 420 });
    const later = [{ ...shown.warmHours[0]!, time: "10:00" }];
    expect(patchOf(warm, { ...shown, warmHours: later })).toHaveProperty("warmHours");
  }
  const odd = [{ cron: "0 9 1 * *", minutes: 480, zone: "UTC" }];
  const other = modelOf({ config: { ...config, warmHours: odd }, effective: { ...config, warmHours: odd } });
  const shown = formOf(other);
  const second = [{ ...shown.warmHours[0]!, cron: "0 9 2 * *" }];
  expect(patchOf(other, { ...shown, warmHours: second })).toHaveProperty("warmHours");
});

test("what nobody touched shows what holds, and what is as it holds again is no edit", () => {
  const edits = edited(model, edited(model, {}, { instanceTypes: "g6.xlarge" }), { idleMinutes: "20" });
  expect(edits).toEqual({ instanceTypes: "g6.xlarge", idleMinutes: "20" });
  expect(edited(model, edits, { idleMinutes: "15" })).toEqual({ instanceTypes: "g6.xlarge" });
  const meanwhile = modelOf({ config, effective: { ...config, idleTimeout: 900, vllmArgs: "--enforce-eager" } });
  expect(patchOf(meanwhile, { ...formOf(meanwhile), ...edits })).toEqual({ idleTimeout: 1200 });
});

test("saving takes the edits that were saved, not those for Pulumi nor what was typed since", () => {
  const sent = { instanceTypes: "g6.xlarge", idleMinutes: "20", vllmArgs: "--a" };
  expect(unsaved(sent, sent, { idleTimeout: 1200 })).toEqual({ instanceTypes: "g6.xlarge", vllmArgs: "--a" });
  const typed = { ...sent, idleMinutes: "201" };
  expect(unsaved(typed, sent, { idleTimeout: 1200, vllmArgs: "--a" })).toEqual({
    instanceTypes: "g6.xlarge",
    idleMinutes: "201",
  });
});

test("only arguments wait for the next start", () => {
  expect(savedInWords({ idleTimeout: 60 })).toBe("Saved. It holds from now on.");
  expect(savedInWords({ vllmArgs: null })).toBe("Saved. They hold from the next start on.");
  expect(savedInWords({ vllmArgs: "", idleTimeout: 9 })).toContain("The vLLM arguments hold from the next start on");
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
  expect(linesFor(0, config, { instanceTypes: ["g5.xlarge"] })).toEqual([]);
});

test("a value that begins like a flag is told to be none", () => {
  const [line] = linesFor(0, config, { vllmArgs: "--enforce-eager" });
  expect(line).toBe("pulumi config set --path 'diogenes:models[0].vllmArgs' -- '--enforce-eager'");
  expect(FIRST_MODEL).toContain("'diogenes:models[0].vllmArgs' -- '--max-model-len 16384'");
});

/** What a shell calls pulumi with, an array for each call; the stack has these models. */
function typed(lines: readonly string[], models: readonly string[]): string[][] {
  const pulumi = `pulumi() { if [ "$2" = get ]; then printf %s "$STACK"; else printf '%s\n' "$@" ''; fi; }`;
  const told = execFileSync("bash", ["-c", [pulumi, ...lines].join("\n")], {
    env: { ...process.env, STACK: JSON.stringify(models.map((name) => ({ name }))) },
    encoding: "utf8",
  });
  return told.split("\n\n").flatMap((words) => (words ? [words.split("\n")] : []));
}

test("of several models a line finds the right one, whatever it is called", () => {
  const [names, name] = [["a", "org/it-is.b:x", "c"], "org/it-is.b:x"];
  const lines = linesFor(placeOf(names, name), config, { instanceTypes: ["g6.xlarge"], vllmArgs: "--a 'b c'" });
  expect(typed(lines, names)).toEqual([
    ["config", "set", "--path", "diogenes:models[1].instanceTypes[0]", "g6.xlarge"],
    ["config", "set", "--path", "diogenes:models[1].vllmArgs", "--", "--a 'b c'"],
    ["up"],
  ]);
  const only = linesFor(placeOf(["c"], "c"), config, { market: "spot" });
  expect(only).toEqual(["pulumi config set --path 'diogenes:models[0].market' spot", "pulumi up"]);
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
