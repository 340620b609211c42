/** What to do next with a question that waits: decided here, done by the sender. Pure. */

import type { Model } from "@/api/models";
import type { Outgoing } from "./database";

export type Action =
  | { kind: "send" }
  | { kind: "wake" } // ask the server to start the model; twice is once
  | { kind: "wait" }
  | { kind: "hold"; until: number } // the start failed for a reason that passes: the next try
  | { kind: "give-up" };

/** The server takes a wish back when nobody repeats it. */
export const REPEAT_WAKE_S = 60;
/** Offline, signed out, too many at a time: how long until it is tried again. */
export const PAUSE_S = 5;
/** AWS had no machine: how long between two tries, and how long they go on. */
export const RETRY_S = 300;
export const RETRY_FOR_S = 1800;

/** `model` is as the server last told it; undefined: not heard of yet. */
export function next(outgoing: Outgoing, model: Model | undefined, now: number): Action {
  // 0. Something that passes was in the way just now.
  if (now < outgoing.notBefore) return { kind: "wait" };
  // 1. The model has answered nothing yet: ask for it at once, whatever it is doing.
  if (!outgoing.wokenAt) return model?.status === "ready" ? { kind: "send" } : { kind: "wake" };
  if (!model) return { kind: "wait" };
  // 2. What is ready gets it.
  if (model.status === "ready") return { kind: "send" };
  // 3. A start that failed: once more later where that may help, never again by itself where it cannot.
  if (model.status === "failed") return afterFailure(outgoing, model, now);
  // 4. Nothing is on its way (any more): ask again, but not with every look.
  const idle = model.status === "cold" || model.status === "draining";
  return idle && now - outgoing.wokenAt >= REPEAT_WAKE_S ? { kind: "wake" } : { kind: "wait" };
}

function afterFailure(outgoing: Outgoing, model: Model, now: number): Action {
  if (model.failure?.permanent) return { kind: "give-up" };
  const refusedAt = outgoing.refusedAt || now;
  if (now - refusedAt >= RETRY_FOR_S) return { kind: "give-up" };
  const until = Math.max(outgoing.wokenAt + RETRY_S, model.failure?.next_try_at ?? 0);
  return now >= until ? { kind: "wake" } : { kind: "hold", until };
}
