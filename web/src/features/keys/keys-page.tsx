import { messageOf } from "@/api/errors";
import { listKeys, revokeKey, type KeyEntry } from "@/api/keys";
import type { Session } from "@/api/session";
import { getUsage } from "@/api/usage";
import { daysBefore, zone } from "@/lib/days";
import { about, ago, dayAndTime, microUsd } from "@/lib/format";
import { BudgetBar, stateInWords } from "@/ui/budget-bar";
import { Confirm } from "@/ui/dialog";
import { Icon } from "@/ui/icons";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { useNow } from "@/ui/use-now";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { NewKeyDialog } from "./new-key";
import "./keys.css";

const ALL_KEYS = { queryKey: ["keys"] };
const keysQuery = (everyone: boolean) =>
  queryOptions({ queryKey: [...ALL_KEYS.queryKey, everyone], queryFn: ({ signal }) => listKeys(everyone, signal) });

export default function KeysPage({ session }: { session: Session }) {
  const [everyone, setEveryone] = useState(false);
  const { data: keys, error, refetch } = useQuery(keysQuery(everyone));
  const [making, setMaking] = useState(false);
  const client = useQueryClient();
  return (
    <Page
      title="Keys"
      action={
        <button type="button" className="button primary" onClick={() => setMaking(true)}>
          <Icon name="plus" size={16} /> New key
        </button>
      }
    >
      {session.owner && (
        <label className="check">
          <input type="checkbox" checked={everyone} onChange={({ target }) => setEveryone(target.checked)} />
          Everybody’s keys
        </label>
      )}
      {keys ? (
        <List keys={keys} email={session.email} />
      ) : error ? (
        <Trouble error={error} again={() => void refetch()} />
      ) : (
        <Loading what="the keys" />
      )}
      {making && (
        <NewKeyDialog onMade={() => void client.invalidateQueries(ALL_KEYS)} onClose={() => setMaking(false)} />
      )}
    </Page>
  );
}

function List({ keys, email }: { keys: readonly KeyEntry[]; email: string }) {
  const [revoking, setRevoking] = useState<KeyEntry>();
  const client = useQueryClient();
  const costs = useCosts();
  const revoke = useMutation({
    mutationFn: ({ key_id }: KeyEntry) => revokeKey(key_id),
    onSettled: () => client.invalidateQueries(ALL_KEYS),
  });
  if (!keys.length) {
    return (
      <Empty title="No keys yet.">
        <p className="muted">A key lets any OpenAI client in: a script, an editor, Open WebUI.</p>
      </Empty>
    );
  }
  return (
    <>
      <ul className="keys">
        {keys.map((key) => (
          <Entry
            key={key.key_id}
            entry={key}
            owner={key.email === email ? "" : key.email}
            cost={costs?.get(key.key_id)}
            onRevoke={() => setRevoking(key)}
          />
        ))}
      </ul>
      {revoke.error && (
        <p className="problem" role="alert">
          {messageOf(revoke.error)}
        </p>
      )}
      {revoking && (
        <Confirm
          title={`Revoke “${revoking.name}”?`}
          action="Revoke"
          onDo={() => revoke.mutate(revoking)}
          onClose={() => setRevoking(undefined)}
        >
          <p>
            {revoking.email === email ? "" : `It is ${revoking.email}’s. `}
            Whatever uses {revoking.prefix}… is refused within ten seconds
            {keys.some((key) => key.made_by === revoking.key_id) ? ", and so are the keys that were made with it" : ""}.
            It cannot be brought back; a new key can be made.
          </p>
        </Confirm>
      )}
    </>
  );
}

interface EntryProps {
  entry: KeyEntry;
  owner: string; // whose it is, if it is another's
  cost: number | undefined;
  onRevoke: () => void;
}

function Entry({ entry, owner, cost, onRevoke }: EntryProps) {
  const now = useNow(30_000);
  const { expires_at: expires, models, requests_per_minute: rate, budget } = entry;
  const limits = [
    expires ? `${expires < now ? "expired" : "expires"} ${dayAndTime(expires, now)}` : "",
    models?.length ? models.join(", ") : "",
    rate ? `${rate} requests a minute` : "",
    entry.wait_s === null ? "" : `waits up to ${about(entry.wait_s)} for a start`,
  ].filter(Boolean);
  return (
    <li className="card key">
      <div>
        <h2>{entry.name}</h2>
        <code>{entry.prefix}…</code>
        {owner && <p className="muted">{owner}</p>}
      </div>
      <div className="key-facts">
        <p className="muted numbers">
          made {dayAndTime(entry.created_at, now)} ·{" "}
          {entry.last_used_at ? `used ${ago(entry.last_used_at, now)}` : "never used"}
          {cost === undefined ? "" : ` · ${microUsd(cost)} in 30 days`}
          {limits.length > 0 && <br />}
          {limits.join(" · ")}
        </p>
        {budget && (
          <p className="key-budget numbers">
            <span>
              {microUsd(budget.spent)} of {microUsd(budget.limit)} this month
            </span>
            {stateInWords(budget) && <span className="problem"> · {stateInWords(budget)}</span>}
            <BudgetBar budget={budget} label={`Spent of the budget of ${entry.name}`} />
          </p>
        )}
      </div>
      <button type="button" className="button" onClick={onRevoke}>
        Revoke<span className="visually-hidden"> {entry.name}</span>
      </button>
    </li>
  );
}

/** Micro-dollars of the last 30 days, by key. */
function useCosts(): Map<string, number> | undefined {
  const days = daysBefore(Date.now(), 30);
  const [from = "", to = ""] = [days[0], days.at(-1)];
  const { data } = useQuery({
    queryKey: ["usage", "key", from, to],
    queryFn: ({ signal }) => getUsage({ from, to, zone: zone(), by: "key" }, signal),
    staleTime: 60_000,
    retry: false,
  });
  return data && new Map(data.rows.map((row) => [row.key ?? "", row.micro_usd]));
}
