/** System prompt and sampling of one chat. */

import { Dialog } from "@/ui/dialog";
import { Field } from "@/ui/field";
import { useState } from "react";
import type { Conversation, Params } from "./conversation";

type Texts = Record<keyof Params, string>;

const RANGES: Record<keyof Params, { label: string; hint: string; low: number; high: number; step: string }> = {
  temperature: { label: "Temperature", hint: "0 to 2; empty: the model’s own", low: 0, high: 2, step: "0.1" },
  topP: { label: "Top P", hint: "above 0, to 1; empty: the model’s own", low: 0.01, high: 1, step: "0.05" },
  maxTokens: { label: "Most tokens of an answer", hint: "empty: as many as fit", low: 1, high: 1_000_000, step: "1" },
};
const NAMES = Object.keys(RANGES) as (keyof Params)[];

export function ParamsDialog({
  conversation,
  onSave,
  onClose,
}: {
  conversation: Conversation;
  onSave: (changed: Pick<Conversation, "system" | "params">) => void;
  onClose: () => void;
}) {
  const [system, setSystem] = useState(conversation.system);
  const [texts, setTexts] = useState<Texts>(() => textsOf(conversation.params));
  const problems = Object.fromEntries(NAMES.map((name) => [name, problemOf(name, texts[name])]));
  const sound = NAMES.every((name) => !problems[name]);
  return (
    <Dialog title="This chat" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!sound) return;
          onSave({ system, params: paramsOf(texts) });
          onClose();
        }}
      >
        <Field label="System prompt" hint="What the model is told before everything else.">
          {(ids) => <textarea {...ids} rows={5} value={system} onChange={(event) => setSystem(event.target.value)} />}
        </Field>
        <div className="columns">
          {NAMES.map((name) => (
            <Field key={name} label={RANGES[name].label} hint={RANGES[name].hint} problem={problems[name]}>
              {(ids) => (
                <input
                  {...ids}
                  inputMode="decimal"
                  value={texts[name]}
                  onChange={(event) => setTexts({ ...texts, [name]: event.target.value })}
                />
              )}
            </Field>
          ))}
        </div>
        <footer>
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={!sound}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function textsOf(params: Params): Texts {
  const text = (value: number | undefined) => (value === undefined ? "" : String(value));
  return { temperature: text(params.temperature), topP: text(params.topP), maxTokens: text(params.maxTokens) };
}

function problemOf(name: keyof Params, text: string): string | undefined {
  if (!text.trim()) return undefined;
  const { low, high } = RANGES[name];
  const value = Number(text.replace(",", "."));
  if (!Number.isFinite(value) || value < low || value > high) return `A number from ${low} to ${high}`;
  return name === "maxTokens" && !Number.isInteger(value) ? "A whole number" : undefined;
}

function paramsOf(texts: Texts): Params {
  const told = NAMES.filter((name) => texts[name].trim());
  return Object.fromEntries(told.map((name) => [name, Number(texts[name].replace(",", "."))]));
}
