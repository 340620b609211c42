/** What was spent. Money is whole micro-dollars: sums of them are exact. */

import { call, request } from "./client";
import type { components } from "./types.gen";

type Schemas = components["schemas"];

export type By = Schemas["By"];
export type Figures = Schemas["Figures"];
export type UsageRow = Schemas["RowEntry"];
export type Budget = Schemas["StandingEntry"];
export type Usage = Schemas["UsageReport"];
export type BreakEven = Schemas["BreakEvenReport"];

export interface UsageQuery {
  from: string; // the first day, YYYY-MM-DD
  to: string; // the last
  zone: string;
  by: By;
  owner?: string; // the deployment's owner may ask for one person
}

const path = (query: UsageQuery, more: Record<string, string> = {}) =>
  `/api/usage?${new URLSearchParams({ ...query, ...more }).toString()}` as const;

/** Of all models, or of one. */
export const getUsage = (query: UsageQuery, signal?: AbortSignal, model?: string): Promise<Usage> =>
  request(path(query, model ? { model } : {}), { signal });

export const getBreakEven = (days: Omit<UsageQuery, "by">, signal?: AbortSignal): Promise<BreakEven> =>
  request(`/api/usage/break-even?${new URLSearchParams({ ...days }).toString()}`, { signal });

/** Of this month; those that concern whoever asks, all for the owner. */
export async function listBudgets(signal?: AbortSignal): Promise<Budget[]> {
  return (await request<Schemas["BudgetList"]>("/api/budgets", { signal })).budgets;
}

/** The owner's to set. `null` takes back what was set: what is configured holds again. */
export async function setBudget(scope: string, monthlyUsd: number | null): Promise<void> {
  const body: Schemas["NewBudget"] = { monthly_usd: monthlyUsd };
  await call(`/api/budgets/${encodeURIComponent(scope)}`, { method: "PUT", body });
}

export async function usageCsv(query: UsageQuery): Promise<Blob> {
  return await (await call(path(query, { format: "csv" }))).blob();
}
