/** A start as it goes: phases, what is left, what it has cost. */

import { hourlyUsd, type Model } from "@/api/models";
import { elapsedInWords, leftInWords, progressOf, spentUsd, type Step } from "@/api/start";
import { about, clock, usd } from "@/lib/format";
import type { ReactNode } from "react";
import { useNow } from "./use-now";

const LOG_BELOW = "Look at the log below, or cancel and start again.";

interface Props {
  model: Model;
  advice?: ReactNode; // where it takes longer than usual
  children?: ReactNode;
}

export function StartCard({ model, advice = LOG_BELOW, children }: Props) {
  const now = useNow();
  const progress = progressOf(model, now);
  if (!progress) return null;
  const percent = Math.floor(progress.share * 100);
  const current = progress.steps.find(({ state }) => state === "now");
  return (
    <section className="start" aria-label={`${model.name} is waking`} data-pace={progress.pace}>
      <header>
        <h3>Waking {model.name}</h3>
        <span className="numbers">{elapsedInWords(progress)}</span>
      </header>
      <progress max={100} value={percent} aria-label="Start">
        {percent} %
      </progress>
      {/* Only a new phase is read out, not each second. */}
      <p className="visually-hidden" role="status">
        {current?.word}
      </p>
      <p className="start-left" aria-live="off">
        <strong>{leftInWords(progress, model.start?.eta?.samples ?? null)}</strong>{" "}
        {progress.pace !== "usual" && advice}
      </p>
      <details className="start-steps">
        <summary>
          {current?.word} {current?.detail && <span className="muted">{current.detail}</span>}
        </summary>
        <ol>
          {progress.steps.map((step) => (
            <StepLine key={step.phase} step={step} />
          ))}
        </ol>
      </details>
      <p className="muted">{costInWords(model, now)}</p>
      {children && <div className="row">{children}</div>}
    </section>
  );
}

function StepLine({ step: { word, state, seconds, detail } }: { step: Step }) {
  return (
    <li data-state={state} aria-current={state === "now" ? "step" : undefined}>
      <span>{word}</span> {detail && <span className="muted">{detail}</span>}
      {seconds !== null && <span className="numbers">{clock(seconds)}</span>}
    </li>
  );
}

/** `$0.07 spent · $1.86/h while on · sleeps after 15 min idle`, as far as it is known. */
export function costInWords(model: Model, now: number): string {
  const [spent, hourly] = [spentUsd(model, now), hourlyUsd(model)];
  return [
    spent === null ? "" : `${usd(spent)} spent`,
    hourly === null ? "" : `${usd(hourly)}/h while on`,
    `sleeps after ${about(model.idle_timeout_s)} idle`,
  ]
    .filter(Boolean)
    .join(" · ");
}
