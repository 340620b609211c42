/** What to do next with a question that waits: decided here, done by the sender. Pure. */

import type { Failure, Model } from "@/api/models";
import type { Outgoing } from "./database";

export type Action =
  | { kind: "send" }
  | { kind: "wake" } // ask the server to start the model; twice is once
  | { kind: "wait" }
  | { kind: "note-start" } // a start is under way: whether it was seen decides what its end means
  | { kind: "hold"; until: number } // the start failed for a reason that passes: the next try
  | { kind: "ask" } // somebody stopped the start: only a person starts it again
  | { kind: "give-up" };

/** A wish that nothing came of: how long until it is repeated. */
export const REPEAT_WAKE_S = 60;
/** Offline, signed out, too many at a time: how long until it is tried again. */
export const PAUSE_S = 5;
/** A server that breaks may be whole again soon; how often that is tried, each pause twice the one before. */
export const TRIES = 5;
/** AWS had no machine: how long between two tries, and how long they go on. */
export const RETRY_S = 300;
export const RETRY_FOR_S = 1800;

/** `model` is as the server last told it; undefined: not heard of yet. */
export function next(outgoing: Outgoing, model: Model | undefined, now: number): Action {
  // 0. Something that passes was in the way just now.
  if (now < outgoing.notBefore) return { kind: "wait" };
  // 1. The model has answered nothing yet: ask for it at once, whatever it is doing.
  if (!outgoing.wokenAt) return model?.status === "ready" ? { kind: "send" } : { kind: "wake" };
  switch (model?.status) {
    // 2. What is ready gets it.
    case "ready":
      return { kind: "send" };
    // 3. A start that failed: once more later where that may help, never again by itself where it cannot.
    case "failed":
      return afterFailure(outgoing, model.failure, now);
    case "starting":
      return outgoing.starting ? { kind: "wait" } : { kind: "note-start" };
    case "cold":
    case "draining":
      return afterSleep(outgoing, now);
    default:
      return { kind: "wait" };
  }
}

/** Nothing is on its way (any more). */
function afterSleep(outgoing: Outgoing, now: number): Action {
  // A start that ended without a failure was stopped, here or elsewhere. To start again would undo that, and costs money.
  if (outgoing.starting) return { kind: "ask" };
  // The server forgets a failure long before the next try is due.
  if (outgoing.refusedAt) return afterFailure(outgoing, outgoing.failure, now);
  return now - outgoing.wokenAt >= REPEAT_WAKE_S ? { kind: "wake" } : { kind: "wait" };
}

function afterFailure(outgoing: Outgoing, failure: Failure | null, now: number): Action {
  if (failure?.permanent) return { kind: "give-up" };
  const refusedAt = outgoing.refusedAt || now;
  if (now - refusedAt >= RETRY_FOR_S) return { kind: "give-up" };
  const until = Math.max(outgoing.wokenAt + RETRY_S, failure?.next_try_at ?? 0);
  return now >= until ? { kind: "wake" } : { kind: "hold", until };
}
