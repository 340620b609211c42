import { messageOf } from "@/api/errors";
import { listKeys, revokeKey, type KeyEntry } from "@/api/keys";
import { getUsage } from "@/api/usage";
import { daysBefore, zone } from "@/lib/days";
import { ago, dayAndTime, microUsd, usd } from "@/lib/format";
import { Confirm } from "@/ui/dialog";
import { Icon } from "@/ui/icons";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { useNow } from "@/ui/use-now";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { NewKeyDialog } from "./new-key";
import "./keys.css";

const keysQuery = queryOptions({ queryKey: ["keys"], queryFn: ({ signal }) => listKeys(signal) });

export default function KeysPage() {
  const { data: keys, error, refetch } = useQuery(keysQuery);
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
      {keys ? (
        <List keys={keys} />
      ) : error ? (
        <Trouble error={error} again={() => void refetch()} />
      ) : (
        <Loading what="the keys" />
      )}
      {making && (
        <NewKeyDialog onMade={() => void client.invalidateQueries(keysQuery)} onClose={() => setMaking(false)} />
      )}
    </Page>
  );
}

function List({ keys }: { keys: readonly KeyEntry[] }) {
  const [revoking, setRevoking] = useState<KeyEntry>();
  const client = useQueryClient();
  const costs = useCosts();
  const revoke = useMutation({
    mutationFn: ({ key_id }: KeyEntry) => revokeKey(key_id),
    onSettled: () => client.invalidateQueries(keysQuery),
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
          <Entry key={key.key_id} entry={key} cost={costs?.get(key.key_id)} onRevoke={() => setRevoking(key)} />
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
            Whatever uses {revoking.prefix}… is refused within ten seconds. It cannot be brought back; a new key can be
            made.
          </p>
        </Confirm>
      )}
    </>
  );
}

function Entry({ entry, cost, onRevoke }: { entry: KeyEntry; cost: number | undefined; onRevoke: () => void }) {
  const now = useNow(30_000);
  const { expires_at: expires, models, monthly_budget_usd: budget, requests_per_minute: rate } = entry;
  const limits = [
    expires ? `${expires < now ? "expired" : "expires"} ${dayAndTime(expires, now)}` : "",
    models?.length ? models.join(", ") : "",
    budget ? `${usd(budget)} a month` : "",
    rate ? `${rate} requests a minute` : "",
    entry.wait_s === null ? "" : `waits ${entry.wait_s} s at most`,
  ].filter(Boolean);
  return (
    <li className="card key">
      <div>
        <h2>{entry.name}</h2>
        <code>{entry.prefix}…</code>
      </div>
      <p className="muted numbers">
        made {dayAndTime(entry.created_at, now)} ·{" "}
        {entry.last_used_at ? `used ${ago(entry.last_used_at, now)}` : "never used"}
        {cost === undefined ? "" : ` · ${microUsd(cost)} in 30 days`}
        {limits.length > 0 && <br />}
        {limits.join(" · ")}
      </p>
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
