/** Starting before the first question: the choice, and what is left of the budget for it. */

import { listBudgets } from "@/api/usage";
import { microUsd } from "@/lib/format";
import { keepAhead, keptAhead } from "@/ui/ahead";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

export function Ahead() {
  const [on, setOn] = useState(keptAhead);
  const { data } = useQuery({
    queryKey: ["budgets"],
    queryFn: ({ signal }) => listBudgets(signal),
    staleTime: 60_000,
    retry: false,
  });
  const budget = data?.find(({ scope }) => scope === "speculative");
  return (
    <>
      <label className="check">
        <input
          type="checkbox"
          checked={on}
          onChange={({ target }) => {
            keepAhead(target.checked);
            setOn(target.checked);
          }}
        />
        Start a model as soon as I pick it in the chat
      </label>
      <p className="muted">
        It is ready sooner. If no question comes within two minutes, the start is given up.
        {budget && ` This month ${microUsd(budget.spent)} of ${microUsd(budget.limit)} went into such starts.`}
      </p>
    </>
  );
}
