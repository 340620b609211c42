/** One model's configuration: what can be changed here, and the lines for what is Pulumi's. */

import { messageOf } from "@/api/errors";
import { editModel, type Changes, type Model, type Override } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { Command } from "@/ui/copy";
import { Field } from "@/ui/field";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { StateMark } from "@/ui/state";
import { useModels } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { Check } from "./check";
import {
  differences,
  edited,
  formOf,
  hardwareOf,
  patchOf,
  problemsOf,
  pulumiHint,
  savedInWords,
  typesOf,
  unsaved,
  type Edits,
  type Form,
  type Problems,
} from "./form";
import { linesFor, placeOf, type Place } from "./pulumi-lines";
import { WarmHours } from "./warm-hours-field";
import "./models.css";

export default function EditPage({ name }: { name: string }) {
  const { data: models, error, refetch } = useModels();
  const model = models?.find((each) => each.name === name);
  const place = placeOf(models ?? [], name);
  return (
    <Page title={name} action={model && <StateMark state={model.status} />}>
      <p>
        <Link href="/models">← All models</Link>
      </p>
      {model ? (
        <Editor key={model.name} model={model} place={place} />
      ) : models ? (
        <Empty title="There is no such model." />
      ) : error ? (
        <Trouble error={error} again={() => void refetch()} />
      ) : (
        <Loading what="the model" />
      )}
    </Page>
  );
}

function Editor({ model, place }: { model: Model; place: Place }) {
  const [edits, setEdits] = useState<Edits>({});
  const form = { ...formOf(model), ...edits };
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: ({ patch }: { patch: Changes<Override>; sent: Edits }) => editModel(model.name, patch),
    onSuccess: async (saved, { patch: done, sent }) => {
      await client.cancelQueries(modelsQuery); // one on its way was asked before
      client.setQueryData(modelsQuery.queryKey, (models) =>
        models?.map((each) => (each.name === saved.name ? { ...each, ...saved } : each)),
      );
      setEdits((before) => unsaved(before, sent, done));
      await client.invalidateQueries(modelsQuery);
    },
  });
  const change = (changed: Edits) => setEdits((before) => edited(model, before, changed));
  const problems = problemsOf(form);
  const patch = patchOf(model, form);
  const sound = !Object.keys(problems).length;
  return (
    <div className="edit">
      <form
        className="card"
        onSubmit={(event) => {
          event.preventDefault();
          if (sound) save.mutate({ patch, sent: edits });
        }}
      >
        <RunTime model={model} form={form} problems={problems} onChange={change} />
        {save.error && (
          <p className="problem" role="alert">
            {messageOf(save.error)}
          </p>
        )}
        <div className="row">
          <button
            type="submit"
            className="button primary"
            disabled={!sound || !Object.keys(patch).length || save.isPending}
          >
            Save
          </button>
          <span className="muted" role="status">
            {save.isSuccess && !Object.keys(patch).length ? savedInWords(save.variables.patch) : ""}
          </span>
        </div>
        <Hardware form={form} problems={problems} onChange={change} />
      </form>
      <aside className="stack" aria-label="Check">
        <Check
          name={model.name}
          form={form}
          problems={problems}
          onTake={(type) => change({ instanceTypes: [type, ...typesOf(form)].join("\n") })}
        />
        <Differences
          model={model}
          place={place}
          busy={save.isPending}
          onReset={(key) => save.mutate({ patch: { [key]: null }, sent: edits })}
        />
        <PulumiLines model={model} place={place} form={form} problems={problems} />
      </aside>
    </div>
  );
}

interface Part {
  form: Form;
  problems: Problems;
  onChange: (changed: Edits) => void;
}

function RunTime({ model, form, problems, onChange }: Part & { model: Model }) {
  const pulumi = (key: keyof Override) => pulumiHint(model.config, form, key);
  const hint = (text: string, key: keyof Override) => [text, pulumi(key)].filter(Boolean).join(" · ");
  return (
    <fieldset className="plain">
      <legend>How it runs</legend>
      <p className="hint">Saved here, without Pulumi. What then differs from it is listed.</p>
      <div className="columns">
        <Field
          label="Idle timeout, minutes"
          hint={hint("Since the end of the last request", "idleTimeout")}
          problem={problems.idleMinutes}
        >
          {(ids) => (
            <input
              {...ids}
              inputMode="decimal"
              value={form.idleMinutes}
              onChange={({ target }) => onChange({ idleMinutes: target.value })}
            />
          )}
        </Field>
        <Field label="Most instances" hint={hint("1 to 8", "maxInstances")} problem={problems.maxInstances}>
          {(ids) => (
            <input
              {...ids}
              inputMode="numeric"
              value={form.maxInstances}
              onChange={({ target }) => onChange({ maxInstances: target.value })}
            />
          )}
        </Field>
      </div>
      <Field
        label="vLLM arguments"
        hint={hint("As on vLLM’s command line; from the next start on", "vllmArgs")}
        problem={problems.vllmArgs}
      >
        {(ids) => (
          <textarea
            {...ids}
            className="mono"
            rows={3}
            spellCheck={false}
            value={form.vllmArgs}
            onChange={({ target }) => onChange({ vllmArgs: target.value })}
          />
        )}
      </Field>
      <WarmHours
        windows={form.warmHours}
        hourly={model.usd_per_h} // of one machine: that many they keep awake
        hint={pulumi("warmHours")}
        onChange={(warmHours) => onChange({ warmHours })}
      />
    </fieldset>
  );
}

function Hardware({ form, problems, onChange }: Part) {
  return (
    <fieldset className="plain">
      <legend>What it runs on</legend>
      <p className="hint">This is Pulumi’s: try it here, then copy the lines that change it.</p>
      <div className="columns">
        <Field label="Instance types" hint="One a line, best first" problem={problems.instanceTypes}>
          {(ids) => (
            <textarea
              {...ids}
              className="mono"
              rows={3}
              spellCheck={false}
              value={form.instanceTypes}
              onChange={({ target }) => onChange({ instanceTypes: target.value })}
            />
          )}
        </Field>
        <Field label="Market" hint="How machines are bought">
          {(ids) => (
            <select {...ids} value={form.market} onChange={({ target }) => onChange({ market: target.value })}>
              <option>on-demand</option>
              <option>spot</option>
              <option>spot-then-on-demand</option>
            </select>
          )}
        </Field>
      </div>
    </fieldset>
  );
}

function Differences({
  model,
  place,
  busy,
  onReset,
}: {
  model: Model;
  place: Place;
  busy: boolean;
  onReset: (key: keyof Override) => void;
}) {
  const found = differences(model.config, model.override);
  if (!found.length) return null;
  return (
    <section className="card">
      <h2>Differs from Pulumi</h2>
      {found.map(({ key, label, pulumi, here }) => (
        <div key={key} className="stack">
          <p>
            {label}: <del>{pulumi || "none"}</del> → <ins>{here || "none"}</ins>
          </p>
          <div className="row">
            <button type="button" className="button" disabled={busy} onClick={() => onReset(key)}>
              Back to Pulumi’s<span className="visually-hidden"> {label}</span>
            </button>
          </div>
          <p className="muted">Or make it Pulumi’s:</p>
          <Command text={linesFor(place, model.config, { [key]: model.override[key] }).join("\n")} />
        </div>
      ))}
    </section>
  );
}

function PulumiLines({ model, place, form, problems }: { model: Model; place: Place; form: Form; problems: Problems }) {
  const lines = problems.instanceTypes
    ? []
    : linesFor(place, { market: "on-demand", ...model.config }, hardwareOf(form));
  if (!lines.length) return null;
  return (
    <section className="card">
      <h2>Type where you deployed it</h2>
      {typeof place === "string" && <p className="muted">The first line looks up which of the stack’s models it is.</p>}
      <Command text={lines.join("\n")} />
    </section>
  );
}
