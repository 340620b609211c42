/** A model's state: a word, a colour and a shape, so that no one of them is needed to tell. */

import type { Model, State } from "@/api/models";
import { clock, plural } from "@/lib/format";

const WORDS: Record<State, string> = {
  cold: "asleep",
  starting: "waking",
  ready: "ready",
  draining: "going to sleep",
  failed: "cannot start",
};

export const stateWord = (state: State): string => WORDS[state] ?? state;

export function StateMark({ state }: { state: State }) {
  return (
    <span className="state" data-state={state}>
      <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">
        {state === "failed" ? <path d="M5 0l5 10H0z" /> : <circle cx="5" cy="5" r={state === "cold" ? 3.5 : 4.5} />}
      </svg>
      {stateWord(state)}
    </span>
  );
}

/** What all of it does now, in a word. */
export function summary(models: readonly Model[] | undefined): { word: string; lamp: "asleep" | "waking" | "ready" } {
  const of = (state: State) => models?.filter((model) => model.status === state).length ?? 0;
  const ready = of("ready");
  if (ready) return { word: ready === 1 ? "Ready" : `${ready} ready`, lamp: "ready" };
  if (of("starting")) return { word: "Waking", lamp: "waking" };
  if (of("draining")) return { word: "Going to sleep", lamp: "waking" };
  return { word: "Asleep", lamp: "asleep" };
}

/** `sleeps in 4:10`, or what keeps it awake. */
export function idleInWords(model: Model, now: number): string {
  const running = model.instances.reduce((sum, instance) => sum + instance.running_requests, 0);
  if (running) return `${plural(running, "request")} running`;
  if (!model.sleeps_at) return "";
  return `sleeps in ${clock(model.sleeps_at - now)}`;
}
