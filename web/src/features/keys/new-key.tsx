/** A new key: named, limited, and shown this once. */

import { messageOf } from "@/api/errors";
import { createKey, type NewKey } from "@/api/keys";
import { Command, CopyButton } from "@/ui/copy";
import { Dialog } from "@/ui/dialog";
import { Field } from "@/ui/field";
import { useModels } from "@/ui/use-now";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { newKeyOf, problemsOf, type KeyForm } from "./form";
import { SNIPPETS, type Client } from "./snippets";

const EMPTY: KeyForm = { name: "", expires: "", models: [], budget: "", perMinute: "" };

export function NewKeyDialog({ onMade, onClose }: { onMade: () => void; onClose: () => void }) {
  const make = useMutation({ mutationFn: (key: NewKey) => createKey(key), onSuccess: onMade });
  if (make.data) return <Once name={make.data.name} secret={make.data.key} onClose={onClose} />;
  return (
    <Dialog title="New key" onClose={onClose}>
      <Form busy={make.isPending} problem={make.error ? messageOf(make.error) : ""} onMake={make.mutate} />
    </Dialog>
  );
}

function Form({ busy, problem, onMake }: { busy: boolean; problem: string; onMake: (key: NewKey) => void }) {
  const [form, setForm] = useState(EMPTY);
  const { data: models } = useModels();
  const problems = problemsOf(form);
  const sound = form.name.trim() && !Object.keys(problems).length;
  const change = (changed: Partial<KeyForm>) => setForm({ ...form, ...changed });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (sound) onMake(newKeyOf(form, Date.now() / 1000));
      }}
    >
      <Field label="Name" hint="Where it is used: laptop, Open WebUI, a script">
        {(ids) => (
          <input
            {...ids}
            value={form.name}
            maxLength={64}
            autoComplete="off"
            onChange={({ target }) => change({ name: target.value })}
          />
        )}
      </Field>
      <div className="columns">
        <Field label="Expires">
          {(ids) => (
            <select {...ids} value={form.expires} onChange={({ target }) => change({ expires: target.value })}>
              <option value="">never</option>
              <option value="7">in 7 days</option>
              <option value="30">in 30 days</option>
              <option value="90">in 90 days</option>
              <option value="365">in a year</option>
            </select>
          )}
        </Field>
        <Field label="Dollars a month" hint="empty: no limit" problem={problems.budget}>
          {(ids) => (
            <input
              {...ids}
              inputMode="decimal"
              value={form.budget}
              onChange={({ target }) => change({ budget: target.value })}
            />
          )}
        </Field>
        <Field label="Requests a minute" hint="empty: no limit" problem={problems.perMinute}>
          {(ids) => (
            <input
              {...ids}
              inputMode="numeric"
              value={form.perMinute}
              onChange={({ target }) => change({ perMinute: target.value })}
            />
          )}
        </Field>
      </div>
      {models && models.length > 1 && (
        <fieldset className="models-of-key">
          <legend>Models (none chosen: all)</legend>
          {models.map(({ name }) => (
            <label key={name}>
              <input
                type="checkbox"
                checked={form.models.includes(name)}
                onChange={({ target }) =>
                  change({
                    models: target.checked ? [...form.models, name] : form.models.filter((each) => each !== name),
                  })
                }
              />
              <span>{name}</span>
            </label>
          ))}
        </fieldset>
      )}
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <footer>
        <button type="submit" className="button primary" disabled={!sound || busy}>
          Make the key
        </button>
      </footer>
    </form>
  );
}

function Once({ name, secret, onClose }: { name: string; secret: string; onClose: () => void }) {
  const { data: models } = useModels();
  const [client, setClient] = useState<Client>("curl");
  const model = models?.[0]?.name ?? "MODEL";
  return (
    <Dialog title={`Key “${name}”`} onClose={onClose} wide sure={false}>
      <div className="stack">
        <p>This is the only time that it is shown.</p>
        <Command text={secret} label="Copy key" />
        <label className="pick">
          <span>Use it with</span>
          <select value={client} onChange={({ target }) => setClient(target.value as Client)}>
            {(Object.keys(SNIPPETS) as Client[]).map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <pre className="snippet">
          <code>{SNIPPETS[client]({ base: `${location.origin}/v1`, key: secret, model })}</code>
        </pre>
        <div className="row">
          <CopyButton
            wide
            label="Copy snippet"
            text={SNIPPETS[client]({ base: `${location.origin}/v1`, key: secret, model })}
          />
        </div>
      </div>
      <footer>
        <button type="button" className="button primary" onClick={onClose}>
          I saved it
        </button>
      </footer>
    </Dialog>
  );
}
