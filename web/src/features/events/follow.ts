/** Keeps the list true: by the stream while there is one, else by asking. */

import { ApiError } from "@/api/errors";
import { eventStream, listEvents } from "@/api/events";
import { sleep } from "@/lib/sleep";
import type { Change } from "./feed";

export const POLL_MS = 10_000;
const HIDDEN_POLL_MS = 60_000;
const BACK_MS = 3_000;

export interface Following {
  newest: () => string | null;
  dispatch: (change: Change) => void;
  signal: AbortSignal;
  hidden: () => boolean;
}

/** Returns when the signal says so. */
export async function follow(following: Following): Promise<void> {
  const { dispatch, signal } = following;
  try {
    if (!following.newest()) await firstPage(following); // else it goes on where it was
    for (;;) {
      await streamed(following);
      await asked(following);
      await sleep(following.hidden() ? HIDDEN_POLL_MS : POLL_MS, signal);
    }
  } catch (error) {
    if (!signal.aborted) dispatch({ kind: "way", way: "away" });
    if (!signal.aborted) throw error;
  }
}

async function firstPage({ dispatch, signal }: Following): Promise<void> {
  for (;;) {
    try {
      const { events, next } = await listEvents({}, signal);
      return dispatch({ kind: "page", events, next });
    } catch (error) {
      await passing(error, dispatch, signal);
    }
  }
}

/** While the control plane is awake; returns when it cannot stream. */
async function streamed({ newest, dispatch, signal }: Following): Promise<void> {
  try {
    const stream = eventStream(newest(), signal, () => dispatch({ kind: "way", way: "live" }));
    for await (const event of stream) dispatch({ kind: "arrived", events: [event] });
  } catch (error) {
    if (error instanceof ApiError && error.code === "asleep_no_stream") return;
    if (error instanceof ApiError && (error.offline || error.status >= 500 || error.status === 404)) return;
    if (signal.aborted || error instanceof ApiError) throw error;
    // The connection broke: what was missed is asked for, and then it is tried again.
  }
}

async function asked({ newest, dispatch, signal }: Following): Promise<void> {
  try {
    const after = newest();
    const { events } = await listEvents(after ? { after } : {}, signal);
    dispatch({ kind: "arrived", events: after ? events : events.toReversed() });
    dispatch({ kind: "way", way: "polling" });
  } catch (error) {
    await passing(error, dispatch, signal);
  }
}

async function passing(error: unknown, dispatch: Following["dispatch"], signal: AbortSignal): Promise<void> {
  if (signal.aborted || !(error instanceof ApiError) || (error.status >= 400 && error.status < 500)) throw error;
  dispatch({ kind: "way", way: "away" });
  await sleep(BACK_MS, signal);
}
