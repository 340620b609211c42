/** What was spent. Money is whole micro-dollars: sums of them are exact. */

import { call, request } from "./client";

export type By = "day" | "model" | "key" | "owner";

export interface Figures {
  micro_usd: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  reasoning_tokens: number;
  requests: number;
  gpu_seconds: number;
}

export interface UsageRow extends Figures {
  day?: string; // YYYY-MM-DD in the zone
  model?: string;
  key?: string;
  owner?: string;
}

/** Of a month, in micro-dollars. */
export interface Budget {
  scope: string;
  limit: number;
  hard_cap: number;
  warn_at: number;
  spent: number;
  state: string;
}

export interface Usage {
  rows: UsageRow[];
  total: Figures;
  zone: string;
  budget: Budget | null;
}

export interface UsageQuery {
  from: string; // the first day, YYYY-MM-DD
  to: string; // the last
  zone: string;
  by: By;
}

const path = (query: UsageQuery, more: Record<string, string> = {}) =>
  `/api/usage?${new URLSearchParams({ ...query, ...more }).toString()}` as const;

/** Of all models, or of one. */
export const getUsage = (query: UsageQuery, signal?: AbortSignal, model?: string): Promise<Usage> =>
  request(path(query, model ? { model } : {}), { signal });

export const limitOf = ({ limit }: Budget): number | null => (limit > 0 ? limit : null);

export async function usageCsv(query: UsageQuery): Promise<Blob> {
  return await (await call(path(query, { format: "csv" }))).blob();
}
