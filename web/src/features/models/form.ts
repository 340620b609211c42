/** What the edit page holds, checked before anything is sent. Pure. */

import type { Model, ModelConfig, Override } from "@/api/models";

export interface Form {
  idleMinutes: string;
  vllmArgs: string;
  maxInstances: string;
  instanceTypes: string; // one a line, best first
  market: string;
}

export type Problems = Partial<Record<keyof Form, string>>;

const MAX_INSTANCES = 8;
const MAX_IDLE_MINUTES = 24 * 60;
const RESERVED = ["--host", "--port", "--served-model-name", "--api-key", "--uds", "--root-path"];
const INSTANCE_TYPE = /^[a-z][a-z0-9-]*\.[a-z0-9-]+$/;

export const DEFAULT_IDLE_S = 300;

export function formOf({ effective }: Pick<Model, "effective">): Form {
  const idleS = effective.idleTimeout ?? DEFAULT_IDLE_S;
  return {
    idleMinutes: String(Math.round((idleS / 60) * 100) / 100),
    vllmArgs: effective.vllmArgs ?? "",
    maxInstances: String(effective.maxInstances ?? 1),
    instanceTypes: effective.instanceTypes.join("\n"),
    market: effective.market ?? "on-demand",
  };
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

const idleSeconds = (form: Form): number => Math.round(Number(form.idleMinutes) * 60);

/** What to send: only what changed; `null` where it is as Pulumi has it again. */
export function patchOf(model: Pick<Model, "config" | "effective">, form: Form): Record<string, unknown> {
  const wanted: Override = {
    idleTimeout: idleSeconds(form),
    vllmArgs: form.vllmArgs.trim(),
    maxInstances: Number(form.maxInstances),
  };
  const patch: Record<string, unknown> = {};
  for (const key of ["idleTimeout", "vllmArgs", "maxInstances"] as const) {
    if (wanted[key] === valueOf(model.effective, key)) continue;
    patch[key] = wanted[key] === valueOf(model.config, key) ? null : wanted[key];
  }
  return patch;
}

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

/** What was changed here, beside what Pulumi says. */
export function differences(config: ModelConfig, override: Override): Difference[] {
  const labels: Record<keyof Override, string> = {
    idleTimeout: "Idle timeout, seconds",
    vllmArgs: "vLLM arguments",
    maxInstances: "Most instances",
  };
  return (Object.keys(labels) as (keyof Override)[])
    .filter((key) => override[key] !== undefined && override[key] !== null)
    .map((key) => ({ key, label: labels[key], pulumi: String(valueOf(config, key)), here: String(override[key]) }));
}

function valueOf(config: ModelConfig, key: keyof Override): string | number {
  const usual = { idleTimeout: DEFAULT_IDLE_S, vllmArgs: "", maxInstances: 1 };
  return config[key] ?? usual[key];
}
