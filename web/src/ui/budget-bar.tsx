/** A month's budget as a line: what is spent of it, where it warns, where it ends, and the hard cap at its right end. */

import type { Budget } from "@/api/usage";
import { microUsd } from "@/lib/format";

export function BudgetBar({ budget, label }: { budget: Budget; label: string }) {
  const full = Math.max(budget.hard_cap, budget.limit, 1);
  const at = (value: number) => Math.min(100, (value / full) * 100);
  return (
    <svg
      className="budget-bar"
      data-state={budget.state}
      viewBox="0 0 100 10"
      preserveAspectRatio="none"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={full / 1e6}
      aria-valuenow={Math.min(full, budget.spent) / 1e6}
      aria-valuetext={`${microUsd(budget.spent)} of ${microUsd(budget.limit)}`}
    >
      <title>{marksInWords(budget)}</title>
      <rect className="budget-track" y="2" width="100" height="6" rx="1" />
      <rect className="budget-spent" y="2" width={at(budget.spent)} height="6" rx="1" />
      <path className="budget-mark" data-of="warning" d={`M${at(budget.warn_at)} 1V9`} />
      <path className="budget-mark" d={`M${at(budget.limit)} 0V10`} />
    </svg>
  );
}

export const shareOf = ({ spent, limit }: Budget): number => (limit ? Math.round((spent / limit) * 100) : 100);

/** What follows from how much is spent; empty while nothing does. */
export function stateInWords({ state, warn_at: warnAt, limit }: Budget): string {
  switch (state) {
    case "ok":
      return "";
    case "warn":
      return `more than ${Math.round((warnAt / limit) * 100)} % spent`;
    case "exhausted":
      return "spent: nothing new is started";
    case "capped":
      return "beyond the hard cap: nothing is answered";
  }
}

const marksInWords = ({ warn_at: warnAt, limit, hard_cap: cap }: Budget): string =>
  `warns at ${microUsd(warnAt)}, starts nothing beyond ${microUsd(limit)}, answers nothing beyond ${microUsd(cap)}`;
