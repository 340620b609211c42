/** API keys. A key is in clear once, in the answer that makes it. */

import { call, request } from "./client";
import type { components } from "./types.gen";

type Schemas = components["schemas"];

export type KeyEntry = Schemas["KeyEntry"];
export type NewKey = Schemas["NewKey"];

/** One's own; everybody's, for an owner. */
export async function listKeys(everyone: boolean, signal?: AbortSignal): Promise<KeyEntry[]> {
  const told = await request<Schemas["Keys"]>(everyone ? "/api/keys?everyone=true" : "/api/keys", { signal });
  return told.keys;
}

export const createKey = (key: NewKey): Promise<Schemas["KeyMade"]> =>
  request("/api/keys", { method: "POST", body: key });

export async function revokeKey(id: string): Promise<void> {
  await call(`/api/keys/${encodeURIComponent(id)}`, { method: "DELETE" });
}
