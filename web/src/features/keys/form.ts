/** What the dialog holds, checked. Pure. */

import type { NewKey } from "@/api/keys";

export interface KeyForm {
  name: string;
  expires: string; // days; empty: never
  models: string[];
  budget: string;
  perMinute: string;
}

export function problemsOf({ budget, perMinute }: KeyForm): Partial<Record<keyof KeyForm, string>> {
  const problems: Partial<Record<keyof KeyForm, string>> = {};
  const dollars = Number(budget.replace(",", "."));
  if (budget.trim() && !(dollars > 0 && dollars <= 1_000_000)) problems.budget = "Dollars, more than 0";
  const requests = Number(perMinute);
  if (perMinute.trim() && !(Number.isInteger(requests) && requests >= 1 && requests <= 100_000)) {
    problems.perMinute = "A whole number, at least 1";
  }
  return problems;
}

export function newKeyOf({ name, expires, models, budget, perMinute }: KeyForm, now: number): NewKey {
  return {
    name: name.trim(),
    ...(expires ? { expires_at: Math.round(now) + Number(expires) * 24 * 3600 } : {}),
    ...(models.length ? { models } : {}),
    ...(budget.trim() ? { monthly_budget_usd: Number(budget.replace(",", ".")) } : {}),
    ...(perMinute.trim() ? { requests_per_minute: Number(perMinute) } : {}),
  };
}
