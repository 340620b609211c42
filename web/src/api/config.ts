/** `/config.json`: what one build has to know of the stack that serves it. */

import { setApiBase } from "./client";
import { isRecord } from "./errors";

export interface Provider {
  id: string;
  name: string;
}

export interface Config {
  apiBase: string;
  providers: readonly Provider[]; // none: the stack takes keys only
  version: string;
}

/** Raises when there is none: nothing works without. */
export async function loadConfig(): Promise<Config> {
  const response = await fetch("/config.json", { cache: "no-cache" });
  if (!response.ok) throw new Error(`/config.json: status ${response.status}`);
  const config = parseConfig(await response.json());
  setApiBase(config.apiBase);
  return config;
}

export function parseConfig(told: unknown): Config {
  const config = isRecord(told) ? told : {};
  const providers = Array.isArray(config["providers"]) ? config["providers"].filter(isRecord) : [];
  return {
    apiBase: typeof config["apiBase"] === "string" ? config["apiBase"] : "",
    providers: providers.map(({ id, name }) => ({ id: String(id), name: String(name ?? id) })),
    version: typeof config["version"] === "string" ? config["version"] : "",
  };
}
