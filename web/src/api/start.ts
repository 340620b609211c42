/** How far a start has come, how long it may still take, and what to say of it. Pure. */

import { about, bytes, clock } from "@/lib/format";
import type { Model, PhaseEntry } from "./models";

/** The road from launch to ready; a phase that has nothing to do is left out. */
export const PHASES = [
  "launch",
  "instance",
  "driver",
  "engine-install",
  "weights",
  "load",
  "compile",
  "warmup",
] as const;

const WORDS: Record<string, string> = {
  launch: "Asking AWS for a machine",
  instance: "Starting the machine",
  driver: "Checking the GPU",
  "engine-install": "Installing vLLM",
  weights: "Fetching the weights",
  load: "Loading weights into the GPU",
  compile: "Compiling kernels",
  warmup: "Warming up",
};

/** Where nothing was ever measured: what shares of a start its phases usually take. */
const USUAL_S: Record<string, number> = {
  launch: 5,
  instance: 40,
  driver: 5,
  "engine-install": 30,
  weights: 120,
  load: 60,
  compile: 40,
  warmup: 20,
};

export const phaseWord = (phase: string): string => WORDS[phase] ?? phase;

export type Pace = "usual" | "slow" | "stuck";

export interface Step {
  phase: string;
  word: string;
  state: "done" | "now" | "ahead";
  seconds: number | null; // taken, so far or in all
  detail: string;
}

export interface Progress {
  phase: string;
  share: number; // 0 to just below 1: ready is another state
  elapsedS: number;
  leftS: { low: number; high: number } | null;
  pace: Pace;
  steps: readonly Step[];
}

/** Of a model that is starting; null of any other. `now` is the server's clock, Unix seconds. */
export function progressOf(model: Model, now: number): Progress | null {
  const { start } = model;
  if (!start) return null;
  const told = phasesOf(model);
  const entries = begunOf(told, model, now);
  const current = entries.at(-1) ?? { phase: start.phase, started_at: now - start.elapsed_s };
  const inPhaseS = Math.max(0, now - current.started_at);
  const elapsedS = entries[0] ? Math.max(start.elapsed_s, now - entries[0].started_at) : start.elapsed_s;
  const leftS = leftOf(model, elapsedS);
  return {
    phase: current.phase,
    share: shareOf(told, current, inPhaseS, elapsedS, leftS),
    elapsedS,
    leftS,
    pace: paceOf(current, inPhaseS, elapsedS, start.eta_s === null ? null : start.elapsed_s + start.eta_s),
    steps: stepsOf(entries, told, now),
  };
}

/** As the server tells them; those ahead, of which it knows how long they take, began at 0. */
function phasesOf({ start, instances }: Model): readonly PhaseEntry[] {
  if (start?.phases.length) return start.phases;
  return instances.find((each) => each.status === "starting")?.phases ?? [];
}

function begunOf(told: readonly PhaseEntry[], { start }: Model, now: number): PhaseEntry[] {
  const begun = told.filter((entry) => entry.started_at > 0 && entry.started_at <= now + 5);
  if (begun.length || !start) return begun;
  return [{ phase: start.phase, started_at: now - start.elapsed_s }];
}

function leftOf({ start }: Model, elapsedS: number): Progress["leftS"] {
  if (!start) return null;
  const since = Math.max(0, elapsedS - start.elapsed_s); // since the server said so
  if (start.eta) return { low: Math.max(0, start.eta.low - since), high: Math.max(0, start.eta.high - since) };
  if (start.eta_s === null) return null;
  const left = Math.max(0, start.eta_s - since);
  return { low: left, high: left };
}

function shareOf(
  told: readonly PhaseEntry[],
  current: PhaseEntry,
  inPhaseS: number,
  elapsedS: number,
  leftS: Progress["leftS"],
): number {
  const measured = told.some((entry) => entry.p50_s);
  if (!measured && leftS && leftS.low + leftS.high > 0) {
    return Math.min(0.98, elapsedS / (elapsedS + (leftS.low + leftS.high) / 2));
  }
  const skipped = (phase: string) => measured && !told.some((entry) => entry.phase === phase);
  const usual = (phase: string): number =>
    skipped(phase) ? 0 : (told.find((entry) => entry.phase === phase)?.p50_s ?? USUAL_S[phase] ?? 20);
  const at = PHASES.indexOf(current.phase as (typeof PHASES)[number]);
  const before = PHASES.slice(0, Math.max(0, at)).reduce((sum, phase) => sum + usual(phase), 0);
  const whole = PHASES.reduce((sum, phase) => sum + usual(phase), 0);
  const loaded = current.total_bytes
    ? (current.done_bytes ?? 0) / current.total_bytes
    : inPhaseS / Math.max(1, usual(current.phase));
  return Math.min(0.98, (before + usual(current.phase) * Math.min(0.95, loaded)) / whole);
}

function paceOf(current: PhaseEntry, inPhaseS: number, elapsedS: number, usualS: number | null): Pace {
  const p90 = current.p90_s;
  if (p90) return inPhaseS > 2 * p90 ? "stuck" : inPhaseS > p90 ? "slow" : "usual";
  if (usualS === null || usualS <= 0) return elapsedS > 1200 ? "stuck" : "usual";
  return elapsedS > 3 * usualS + 30 ? "stuck" : elapsedS > 1.5 * usualS + 15 ? "slow" : "usual";
}

function stepsOf(entries: readonly PhaseEntry[], told: readonly PhaseEntry[], now: number): Step[] {
  const done = entries.map((entry, i): Step => {
    const next = entries[i + 1];
    return {
      phase: entry.phase,
      word: phaseWord(entry.phase),
      state: next ? "done" : "now",
      seconds: Math.max(0, (next?.started_at ?? now) - entry.started_at),
      detail: entry.total_bytes ? `${bytes(entry.done_bytes ?? 0)} of ${bytes(entry.total_bytes)}` : "",
    };
  });
  const last = PHASES.indexOf((entries.at(-1)?.phase ?? "launch") as (typeof PHASES)[number]);
  const known = told.slice(entries.length).map(({ phase }) => phase);
  const ahead = known.length ? known : PHASES.slice(last + 1).filter((phase) => phase !== "driver");
  return [
    ...done,
    ...ahead.map((phase): Step => ({ phase, word: phaseWord(phase), state: "ahead", seconds: null, detail: "" })),
  ];
}

/** `About 1½ min left.`, with how sure that is. */
export function leftInWords({ leftS, pace, elapsedS }: Progress, samples: number | null): string {
  if (pace === "stuck") return "May be stuck: it takes more than twice as long as it ever should.";
  if (pace === "slow") return "Slower than usual.";
  if (!leftS)
    return elapsedS < 20 ? "First start: usually 5–8 min, it fetches the weights." : "No start was measured yet.";
  if (leftS.high < 5) return "Any moment now.";
  const range =
    leftS.high - leftS.low > 30 && about(leftS.low) !== about(leftS.high)
      ? `${about(leftS.low)} to ${about(leftS.high)}`
      : about((leftS.low + leftS.high) / 2);
  return `About ${range} left${samples && samples > 1 ? `, by the last ${samples} starts` : ""}.`;
}

/** What a start has cost so far, in dollars; null where the price is not known. */
export function spentUsd(model: Model, now: number): number | null {
  if (!model.run) return null;
  const since = Math.max(0, now - model.run.started);
  return Math.max(model.run.micro_usd / 1e6, (since / 3600) * model.run.usd_per_h);
}

/** For the browser's tab. */
export const shortProgress = ({ share }: Progress): string => `◐ ${Math.floor(share * 100)} %`;

export const elapsedInWords = ({ elapsedS }: Progress): string => clock(elapsedS);
