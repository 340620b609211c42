/** API keys. A key is in clear once, in the answer that makes it. */

import { call, request } from "./client";
import type { components } from "./types.gen";

export interface KeyEntry {
  key_id: string;
  name: string;
  prefix: string;
  email: string;
  created_at: number;
  last_used_at: number | null;
  wait_s: number | null;
  expires_at?: number | null;
  models?: string[] | null;
  monthly_budget_usd?: number | null;
  requests_per_minute?: number | null;
}

export type NewKey = components["schemas"]["NewKey"];

export async function listKeys(signal?: AbortSignal): Promise<KeyEntry[]> {
  return (await request<{ keys: KeyEntry[] }>("/api/keys", { signal })).keys;
}

export const createKey = (key: NewKey): Promise<KeyEntry & { key: string }> =>
  request("/api/keys", { method: "POST", body: key });

export async function revokeKey(id: string): Promise<void> {
  await call(`/api/keys/${encodeURIComponent(id)}`, { method: "DELETE" });
}
