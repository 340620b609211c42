/** What this month may cost, by scope; the owner sets it. */

import { messageOf } from "@/api/errors";
import { listBudgets, setBudget, type Budget } from "@/api/usage";
import { microUsd } from "@/lib/format";
import { BudgetBar, shareOf, stateInWords } from "@/ui/budget-bar";
import { Dialog } from "@/ui/dialog";
import { Field } from "@/ui/field";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { dollarsOf, scopeInWords } from "./table";

const budgetsQuery = queryOptions({
  queryKey: ["budgets"],
  queryFn: ({ signal }) => listBudgets(signal),
  staleTime: 60_000,
});

interface Props {
  owner: boolean;
  names: ReadonlyMap<string, string>; // of keys, by their ids
}

export function Budgets({ owner, names }: Props) {
  const { data: budgets, error } = useQuery(budgetsQuery);
  const [setting, setSetting] = useState<Budget>();
  if (!budgets?.length) return error ? <p className="problem">{messageOf(error)}</p> : null;
  return (
    <section className="card" aria-label="Budgets of this month">
      <h2>Budgets of this month</h2>
      <ul className="budgets">
        {budgets.map((budget) => (
          <Line
            key={budget.scope}
            budget={budget}
            name={scopeInWords(budget.scope, names)}
            onSet={owner ? () => setSetting(budget) : undefined}
          />
        ))}
      </ul>
      <p className="muted">
        Months are counted in UTC. The marks on a line: from the thin one on, the owner is told; beyond the thick one,
        the limit, nothing new is started; at its right end, the hard cap, nothing is answered any more.
      </p>
      {setting && (
        <SetDialog budget={setting} name={scopeInWords(setting.scope, names)} onClose={() => setSetting(undefined)} />
      )}
    </section>
  );
}

function Line({ budget, name, onSet }: { budget: Budget; name: string; onSet: (() => void) | undefined }) {
  const word = stateInWords(budget);
  return (
    <li data-state={budget.state}>
      <p>
        <strong>{name}</strong>
        <br />
        <span className="numbers">
          {microUsd(budget.spent)} of {microUsd(budget.limit)}
        </span>
        <span className={word ? "problem" : "muted"}> · {word || `${shareOf(budget)} %`}</span>
      </p>
      <BudgetBar budget={budget} label={`Spent of the budget: ${name}`} />
      {onSet && (
        <button type="button" className="button" onClick={onSet}>
          Change<span className="visually-hidden"> {name}</span>
        </button>
      )}
    </li>
  );
}

function SetDialog({ budget, name, onClose }: { budget: Budget; name: string; onClose: () => void }) {
  const client = useQueryClient();
  const [text, setText] = useState(String(budget.limit / 1e6));
  const set = useMutation({
    mutationFn: (dollars: number | null) => setBudget(budget.scope, dollars),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["budgets"] });
      await client.invalidateQueries({ queryKey: ["usage"] });
      onClose();
    },
  });
  const dollars = dollarsOf(text);
  return (
    <Dialog title={`Budget: ${name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (dollars !== null) set.mutate(dollars);
        }}
      >
        <Field
          label="Dollars a month"
          hint="Nothing is started beyond it. The hard cap goes along, by its configured percentage."
          problem={dollars === null ? "Dollars, more than 0" : undefined}
        >
          {(ids) => (
            <input {...ids} inputMode="decimal" value={text} onChange={({ target }) => setText(target.value)} />
          )}
        </Field>
        {set.error && (
          <p className="problem" role="alert">
            {messageOf(set.error)}
          </p>
        )}
        <footer>
          <button type="button" className="button" disabled={set.isPending} onClick={() => set.mutate(null)}>
            Back to what is configured
          </button>
          <button type="submit" className="button primary" disabled={dollars === null || set.isPending}>
            Set
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
