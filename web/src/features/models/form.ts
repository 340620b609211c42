/** What the edit page holds, checked before anything is sent. Pure. */

import type { Changes, Model, ModelConfig, Override, WarmWindow } from "@/api/models";
import { inWords, warmWindowOf, windowOf, windowProblem, type Window } from "./warm-hours";

export interface Form {
  idleMinutes: string;
  vllmArgs: string;
  maxInstances: string;
  warmHours: Window[];
  instanceTypes: string; // one a line, best first
  market: string;
}

/** What somebody changed in the form and did not save yet. All else shows what holds, whoever changes it meanwhile. */
export type Edits = Partial<Form>;

export type Problems = Partial<Record<keyof Form, string>>;

const MAX_INSTANCES = 8;
const MAX_IDLE_MINUTES = 24 * 60;
const RESERVED = ["--host", "--port", "--served-model-name", "--api-key", "--uds", "--root-path"];
const INSTANCE_TYPE = /^[a-z][a-z0-9-]*\.[a-z0-9-]+$/;

export const DEFAULT_IDLE_S = 300;

/** What holds where nothing is configured. */
const USUAL = { idleTimeout: DEFAULT_IDLE_S, vllmArgs: "", maxInstances: 1, warmHours: [] } as const;
const FIELDS: Record<keyof Override, keyof Form> = {
  idleTimeout: "idleMinutes",
  vllmArgs: "vllmArgs",
  maxInstances: "maxInstances",
  warmHours: "warmHours",
};
const KEYS = ["idleTimeout", "vllmArgs", "maxInstances", "warmHours"] as const satisfies readonly (keyof Override)[];

export function formOf({ effective }: Pick<Model, "effective">): Form {
  return {
    idleMinutes: String(Math.round((valueOf(effective, "idleTimeout") / 60) * 100) / 100),
    vllmArgs: valueOf(effective, "vllmArgs"),
    maxInstances: String(valueOf(effective, "maxInstances")),
    warmHours: valueOf(effective, "warmHours").map(windowOf),
    instanceTypes: effective.instanceTypes.join("\n"),
    market: effective.market ?? "on-demand",
  };
}

/** The edits with one more; what is again as it holds is none. */
export function edited(model: Pick<Model, "effective">, before: Edits, change: Edits): Edits {
  const holds = formOf(model);
  return without({ ...before, ...change }, (key, value) => alike(value, holds[key]));
}

/** What is left of the edits once these settings were saved as they were `sent`: the others, and what was typed since. */
export function unsaved(before: Edits, sent: Edits, saved: Changes<Override>): Edits {
  const done = new Set(KEYS.filter((key) => key in saved).map((key) => FIELDS[key]));
  return without(before, (key, value) => done.has(key) && alike(value, sent[key]));
}

const without = (edits: Edits, dropped: (key: keyof Form, value: unknown) => boolean): Edits =>
  Object.fromEntries(Object.entries(edits).filter(([key, value]) => !dropped(key as keyof Form, value)));

const alike = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** When it holds what was saved. */
export function savedInWords(saved: Changes<Override>): string {
  if (!("vllmArgs" in saved)) return "Saved. It holds from now on.";
  const alone = Object.keys(saved).length === 1;
  return `Saved. ${alone ? "They hold" : "The vLLM arguments hold"} from the next start on.`;
}

export function problemsOf(form: Form): Problems {
  const problems: Problems = {};
  const idle = Number(form.idleMinutes);
  if (!(idle > 0) || idle > MAX_IDLE_MINUTES) problems.idleMinutes = "Minutes, more than 0 and at most 1440 (a day)";
  const most = Number(form.maxInstances);
  if (!Number.isInteger(most) || most < 1 || most > MAX_INSTANCES) {
    problems.maxInstances = `A whole number from 1 to ${MAX_INSTANCES}`;
  }
  const args = argsProblem(form.vllmArgs);
  if (args) problems.vllmArgs = args;
  const warm = form.warmHours.map(windowProblem).find(Boolean);
  if (warm) problems.warmHours = warm;
  const odd = typesOf(form).filter((type) => !INSTANCE_TYPE.test(type));
  if (odd.length) problems.instanceTypes = `${odd.join(", ")}: no name of an instance type, as in g6e.xlarge`;
  else if (!typesOf(form).length) problems.instanceTypes = "At least one";
  return problems;
}

function argsProblem(args: string): string | undefined {
  const reserved = RESERVED.find((flag) => new RegExp(`(^|\\s)${flag}(?=[\\s=]|$)`).test(args));
  if (reserved) return `${reserved} is set by Diogenes itself`;
  const bare = args.replace(/\\./g, "");
  const quotes = [...bare.replace(/'[^']*'/g, "").replace(/"[^"]*"/g, "")].some((char) => char === "'" || char === '"');
  if (quotes) return "A quote is not closed";
  return args.length > 4096 ? "At most 4096 characters" : undefined;
}

export const typesOf = ({ instanceTypes }: Form): string[] => instanceTypes.split(/[\s,]+/).filter(Boolean);

/** What the form wants to hold; only of a form without problems. */
function wantedOf(form: Form): Required<Override> {
  return {
    idleTimeout: Math.round(Number(form.idleMinutes) * 60),
    vllmArgs: form.vllmArgs.trim(),
    maxInstances: Number(form.maxInstances),
    warmHours: form.warmHours.map(warmWindowOf),
  };
}

/** What to send: only what changed; `null` where it is as Pulumi has it again. */
export function patchOf(model: Pick<Model, "config" | "effective">, form: Form): Changes<Override> {
  const wanted = wantedOf(form);
  const patch: Record<string, unknown> = {};
  for (const key of KEYS) {
    if (same(key, wanted[key], valueOf(model.effective, key))) continue;
    patch[key] = same(key, wanted[key], valueOf(model.config, key)) ? null : wanted[key];
  }
  return patch;
}

/** The whole of it, to be checked by the server. */
export const draftOf = (form: Form) => ({ ...wantedOf(form), ...hardwareOf(form) });

/** What only Pulumi changes. */
export function hardwareOf(form: Form): Pick<ModelConfig, "instanceTypes"> & { market: string } {
  return { instanceTypes: typesOf(form), market: form.market };
}

export interface Difference {
  key: keyof Override;
  label: string;
  pulumi: string;
  here: string;
}

const LABELS: Record<keyof Override, string> = {
  idleTimeout: "Idle timeout",
  vllmArgs: "vLLM arguments",
  maxInstances: "Most instances",
  warmHours: "Warm hours",
};

/** What was changed here, beside what Pulumi says. */
export function differences(config: ModelConfig, override: Override): Difference[] {
  return KEYS.filter((key) => override[key] !== undefined && override[key] !== null).map((key) => ({
    key,
    label: LABELS[key],
    pulumi: told(config, key),
    here: told(override, key),
  }));
}

/** `Pulumi: 10 min`, where the form says something else. */
export function pulumiHint(config: ModelConfig, form: Form, key: keyof Override): string {
  return same(key, wantedOf(form)[key], valueOf(config, key)) ? "" : `Pulumi: ${told(config, key) || "none"}`;
}

function told(from: Partial<ModelConfig>, key: keyof Override): string {
  if (key === "warmHours") return valueOf(from, key).map(inWords).join("; ");
  if (key === "idleTimeout") return duration(valueOf(from, key));
  return String(valueOf(from, key));
}

const duration = (seconds: number): string => (seconds % 60 ? `${seconds} s` : `${seconds / 60} min`);

function same(key: keyof Override, one: unknown, other: unknown): boolean {
  if (key !== "warmHours") return one === other;
  return alike((one as WarmWindow[]).map(meant), (other as WarmWindow[]).map(meant));
}

/** However its line is written: mon-fri and 1-5 are the same days. */
function meant(told: WarmWindow): Window {
  const window = windowOf(told);
  return window.days === "cron" ? window : { ...window, cron: "" };
}

function valueOf<K extends keyof Override>(from: Partial<ModelConfig>, key: K): Required<Override>[K] {
  return (from[key] ?? USUAL[key]) as Required<Override>[K];
}
