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

export interface Budget {
  limit_micro_usd: number | null;
  spent_micro_usd: number;
  warn_at: number | null;
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

const path = (query: UsageQuery): string => `/api/usage?${new URLSearchParams({ ...query })}`;

export const getUsage = (query: UsageQuery, signal?: AbortSignal): Promise<Usage> => request(path(query), { signal });

export async function usageCsv(query: UsageQuery): Promise<Blob> {
  return await (await call(`${path(query)}&format=csv`)).blob();
}
