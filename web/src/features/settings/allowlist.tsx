/** Who may sign in. The owner adds and takes away; what the stack's configuration lists is Pulumi's. */

import { messageOf } from "@/api/errors";
import { allow, disallow, getAllowlist, type AllowlistEntry } from "@/api/session";
import { Field } from "@/ui/field";
import { Loading, Trouble } from "@/ui/page";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

const allowlistQuery = queryOptions({ queryKey: ["allowlist"], queryFn: ({ signal }) => getAllowlist(signal) });

export function Allowlist() {
  const { data, error, refetch } = useQuery(allowlistQuery);
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: ({ email, allowed }: { email: string; allowed: boolean }) => (allowed ? allow(email) : disallow(email)),
    onSettled: () => client.invalidateQueries(allowlistQuery),
  });
  if (!data) return error ? <Trouble error={error} again={() => void refetch()} /> : <Loading what="the list" />;
  return (
    <>
      <ul className="rows">
        {data.map((entry) => (
          <Entry
            key={entry.email}
            entry={entry}
            busy={change.isPending}
            onChange={(allowed) => change.mutate({ email: entry.email, allowed })}
          />
        ))}
      </ul>
      <Add busy={change.isPending} onAdd={(email) => change.mutate({ email, allowed: true })} />
      {change.error && (
        <p className="problem" role="alert">
          {messageOf(change.error)}
        </p>
      )}
    </>
  );
}

function Entry({
  entry: { email, source, allowed, owner },
  busy,
  onChange,
}: {
  entry: AllowlistEntry;
  busy: boolean;
  onChange: (allowed: boolean) => void;
}) {
  return (
    <li>
      <span className={allowed ? "" : "struck"}>{email}</span>
      <span className="muted">
        {owner ? "owner" : source === "pulumi" ? "by Pulumi" : allowed ? "added here" : "not allowed"}
      </span>
      {!owner && (
        <button type="button" className="button" disabled={busy} onClick={() => onChange(!allowed)}>
          {allowed ? "Remove" : "Allow"}
          <span className="visually-hidden"> {email}</span>
        </button>
      )}
    </li>
  );
}

function Add({ busy, onAdd }: { busy: boolean; onAdd: (email: string) => void }) {
  const [email, setEmail] = useState("");
  const sound = /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email.trim());
  return (
    <form
      className="row end"
      onSubmit={(event) => {
        event.preventDefault();
        if (!sound) return;
        onAdd(email.trim().toLowerCase());
        setEmail("");
      }}
    >
      <Field label="Add an email">
        {(ids) => (
          <input
            {...ids}
            type="email"
            autoComplete="off"
            value={email}
            onChange={(event) => setEmail(event.target.value)}
          />
        )}
      </Field>
      <button type="submit" className="button" disabled={!sound || busy}>
        Allow
      </button>
    </form>
  );
}
