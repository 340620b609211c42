/** The models: what is configured, what runs, and the hand on the switch. */

import { Emitter } from "@/lib/emitter";
import { call, pathOf, request } from "./client";
import type { components } from "./types.gen";

type Schemas = components["schemas"];

export type State = Schemas["ModelEntry"]["status"];
export type PhaseEntry = Schemas["PhaseEntry"];
export type Instance = Schemas["NodeEntry"];
export type Failure = Schemas["FailureEntry"];
export type Fix = Schemas["FixEntry"];
export type ModelConfig = Schemas["ModelConfig"];
export type Override = Schemas["Overrides"];
export type WarmWindow = Schemas["WarmWindow"];
export type Model = Schemas["ModelEntry"];
export type ModelDetails = Schemas["ModelDetails"];
export type Assessment = Schemas["Assessment"];
export type Cluster = Schemas["Cluster"];
export type Machine = Schemas["MachineEntry"];

export async function listModels(signal?: AbortSignal): Promise<Model[]> {
  return (await request<Schemas["Models"]>("/api/models", { signal })).models;
}

/** What runs of all that is configured, the control plane's own task too. */
export const getCluster = (signal?: AbortSignal): Promise<Cluster> => request("/api/cluster", { signal });

const at = (name: string, rest: "" | "/cancel" | "/check" | "/keep-awake" | "/prewarm" = "") =>
  `/api/models/${pathOf(name)}${rest}` as const;

export const getModel = (name: string, signal?: AbortSignal): Promise<ModelDetails> => request(at(name), { signal });

/** Returns at once; twice is once. */
export async function wake(name: string, instances = 1): Promise<void> {
  await scale({ model: name, desired: instances });
}

/** Before the first question, from the budget for that. Throws ApiError `budget_exceeded`. */
export async function prewarm(name: string): Promise<void> {
  await call(at(name, "/prewarm"), { method: "POST" });
}

/** A model that somebody stops by hand, told before the server is: whoever waits for it here must not wake it again. */
export const stopping = new Emitter<string>();

/** What runs may finish. */
export async function putToSleep(name: string): Promise<void> {
  stopping.emit(name);
  await scale({ model: name, desired: 0 });
}

async function scale(body: Schemas["Scale"]): Promise<void> {
  await call("/api/cluster/scale", { method: "POST", body });
}

export async function cancelStart(name: string): Promise<void> {
  stopping.emit(name);
  await call(at(name, "/cancel"), { method: "POST" });
}

export async function keepAwake(name: string, until: number | null): Promise<void> {
  const body: Schemas["KeepAwake"] = { until };
  await call(at(name, "/keep-awake"), { method: "PUT", body });
}

/** `null` takes a change back. */
export type Changes<T> = { [Key in keyof T]?: T[Key] | null };

export const editModel = (name: string, override: Changes<Override>): Promise<ModelDetails> =>
  request(at(name), { method: "PATCH", body: override });

/** What would become of the model with these settings instead, Pulumi's among them. Changes nothing. */
export const checkModel = (
  name: string,
  changed: Changes<Omit<ModelConfig, "name">>,
  signal?: AbortSignal,
): Promise<Assessment> => request(at(name, "/check"), { method: "POST", body: changed, signal });

/** Whether a picture may be sent along, by what such models are called and configured. */
export function seesImages({ effective }: Pick<Model, "effective">): boolean {
  const name = `${effective.repository ?? ""} ${effective.name}`;
  const known = /\bVL\b|-VL-|vision|llava|pixtral|internvl|minicpm-v|gemma-3|gemma3|omni|molmo|glm-4\.\d+v|llama-4/i;
  return known.test(name) || /--limit-mm-per-prompt/.test(effective.vllmArgs ?? "");
}

/** A model's name in an address of the app: its slashes stay. */
export const pathName = pathOf;

/** Dollars an hour while the model is on, as far as anybody knows. */
export const hourlyUsd = (model: Model): number | null => model.run?.usd_per_h ?? model.usd_per_h ?? null;

/** Dollars an hour of the models' machines that run now. */
export const runningUsd = (models: readonly Pick<Model, "run">[]): number =>
  models.reduce((sum, { run }) => sum + (run?.usd_per_h ?? 0), 0);

/** Dollars an hour of what runs besides: the control plane, while it is awake. */
export const controlPlaneUsd = ({ run, models }: Pick<Cluster, "run" | "models">): number =>
  run ? Math.max(0, Math.round((run.usd_per_h - runningUsd(models)) * 1e6) / 1e6) : 0;
