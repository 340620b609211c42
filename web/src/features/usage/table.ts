/** Rows into bars and sums. Pure. */

import type { By, Figures, UsageRow } from "@/api/usage";
import { count, microUsd } from "@/lib/format";
import { shortDay } from "@/lib/days";
import type { Bar } from "@/ui/charts";

export const OTHERS = "others";
const MOST = 5; // colours that can be told apart

const FIGURES = [
  "micro_usd",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "requests",
  "gpu_seconds",
  "busy_seconds",
] as const satisfies readonly (keyof Figures)[];

/** What all rows are together: it is what the server's total must be. */
export function sumOf(rows: readonly Figures[]): Figures {
  const sum = Object.fromEntries(FIGURES.map((name) => [name, 0])) as unknown as Figures;
  for (const row of rows) for (const name of FIGURES) sum[name] += row[name] ?? 0;
  return sum;
}

/** Differences that would show: money and tokens are whole numbers, seconds are not. */
export function agrees(rows: readonly Figures[], total: Figures): boolean {
  const sum = sumOf(rows);
  return FIGURES.every((name) => Math.abs(sum[name] - total[name]) <= (name.endsWith("_seconds") ? 1 : 0));
}

export type Measure = "micro_usd" | "tokens" | "gpu_seconds" | "requests";

export function measured(row: Figures, measure: Measure): number {
  return measure === "tokens" ? row.prompt_tokens + row.completion_tokens : row[measure];
}

export function measureInWords(value: number, measure: Measure): string {
  switch (measure) {
    case "micro_usd":
      return microUsd(value);
    case "gpu_seconds":
      return `${(value / 3600).toFixed(value < 36_000 ? 1 : 0)} h`;
    default:
      return count(value);
  }
}

/** Of `series` (a name and its rows by day) the bars of these days, the largest few by name, the rest as others. */
export function barsOf(
  days: readonly string[],
  series: readonly { name: string; rows: readonly UsageRow[] }[],
  measure: Measure,
): { bars: Bar[]; names: string[] } {
  const sizes = series
    .map(({ name, rows }) => ({ name, size: rows.reduce((sum, row) => sum + measured(row, measure), 0) }))
    .filter(({ size }) => size > 0)
    .toSorted((a, b) => b.size - a.size);
  const named = sizes.length > MOST ? sizes.slice(0, MOST - 1) : sizes;
  const names = named.map(({ name }) => name);
  if (sizes.length > MOST) names.push(OTHERS);
  const bars = days.map((day): Bar => {
    const parts = new Map<string, number>();
    for (const { name, rows } of series) {
      const value = rows.filter((row) => row.day === day).reduce((sum, row) => sum + measured(row, measure), 0);
      const under = names.includes(name) ? name : OTHERS;
      if (value) parts.set(under, (parts.get(under) ?? 0) + value);
    }
    const sum = [...parts.values()].reduce((all, value) => all + value, 0);
    return {
      label: shortDay(day),
      title: `${shortDay(day)} ${measureInWords(sum, measure)}`,
      parts: [...parts].map(([name, value]) => ({ name, value })),
    };
  });
  return { bars, names };
}

/** What a row is of. */
export const nameOf = (row: UsageRow, by: By): string => row[by] || "(none)";

/** What nobody asked for is paid by: warm hours, what idles. */
const NOBODY = "deployment";

/** What used a key, by its name; without one it was a browser that is signed in, or nobody. */
export function keyInWords({ key, owner }: UsageRow, names: ReadonlyMap<string, string>): string {
  if (key) return names.get(key) ?? key;
  return owner === NOBODY ? "nobody: warm hours, idle time" : `in the browser${owner ? `: ${owner}` : ""}`;
}

/** Whose budget it is. */
export function scopeInWords(scope: string, keys: ReadonlyMap<string, string>): string {
  const [kind = "", name = ""] = scope.split(/:(.*)/s);
  if (scope === "deployment") return "Everything";
  if (scope === "speculative") return "Starts ahead of a question";
  return kind === "key" ? `Key ${keys.get(name) ?? name}` : name;
}

/** A sum that somebody typed; null where it is none that a budget can have. */
export function dollarsOf(text: string): number | null {
  const dollars = Number(text.trim().replace(",", "."));
  return text.trim() && dollars > 0 && dollars <= 1_000_000 ? dollars : null;
}
