/** The models: what is configured, what runs, and the hand on the switch. */

import { call, pathOf, request } from "./client";
import type { components } from "./types.gen";

export type State = "cold" | "starting" | "ready" | "draining" | "failed";

export interface PhaseEntry {
  phase: string;
  started_at: number;
  done_bytes?: number;
  total_bytes?: number;
  p50_s?: number | null; // how long it usually takes
  p90_s?: number | null;
}

export interface Instance {
  instance_id: string;
  status: string;
  instance_type: string;
  zone: string;
  market: string;
  launched_at: number;
  ready_at: number | null;
  age_s: number;
  phases: PhaseEntry[];
  running_requests: number;
  reason: string | null;
  error: Failure | null;
  log_tail?: string[];
}

export interface Failure {
  code: string;
  message: string;
  fix: string;
  permanent: boolean;
  fixes?: Fix[];
  at?: number;
  next_try_at?: number | null;
}

/** One thing to do about a failure: a command to copy, or a page to open. */
export interface Fix {
  text: string;
  command?: string | null;
  url?: string | null;
}

export interface Start {
  phase: string;
  elapsed_s: number;
  eta_s: number | null;
  eta?: { low: number; high: number; samples: number } | null;
  phases?: PhaseEntry[];
}

export interface Run {
  started: number;
  usd_per_h: number;
  micro_usd: number;
}

export interface ModelConfig {
  name: string;
  repository?: string;
  revision?: string;
  instanceTypes: string[];
  market?: string;
  vllmArgs?: string;
  idleTimeout?: number;
  maxInstances?: number;
  warm_hours?: unknown;
}

export type Override = Partial<Pick<ModelConfig, "idleTimeout" | "vllmArgs" | "maxInstances">>;

export interface Model {
  name: string;
  status: State;
  instances: Instance[];
  start: Start | null;
  failure: Failure | null;
  waiting_requests: number;
  idle_timeout_s: number;
  sleeps_at: number | null;
  keep_awake_until: number | null;
  config: ModelConfig;
  override: Override;
  effective: ModelConfig;
  failure_log?: string[];
  run?: Run | null;
  usd_per_h?: number | null;
}

export async function listModels(signal?: AbortSignal): Promise<Model[]> {
  return (await request<{ models: Model[] }>("/api/models", { signal })).models;
}

const at = (name: string, rest: "" | "/cancel" | "/keep-awake" = "") => `/api/models/${pathOf(name)}${rest}` as const;

export const getModel = (name: string, signal?: AbortSignal): Promise<Model> => request(at(name), { signal });

/** Returns at once; twice is once. */
export async function wake(name: string): Promise<void> {
  await scale({ model: name, desired: 1 });
}

/** What runs may finish. */
export async function putToSleep(name: string): Promise<void> {
  await scale({ model: name, desired: 0 });
}

async function scale(body: components["schemas"]["Scale"]): Promise<void> {
  await call("/api/cluster/scale", { method: "POST", body });
}

export async function cancelStart(name: string): Promise<void> {
  await call(at(name, "/cancel"), { method: "POST" });
}

export async function keepAwake(name: string, until: number | null): Promise<void> {
  const body: components["schemas"]["KeepAwake"] = { until };
  await call(at(name, "/keep-awake"), { method: "PUT", body });
}

/** `null` takes a change back. */
export const editModel = (name: string, override: { [Key in keyof Override]?: Override[Key] | null }): Promise<Model> =>
  request(at(name), { method: "PATCH", body: override });

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
