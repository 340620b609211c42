/** The list of events, whether they come live or are asked for. Pure. */

import type { EventEntry } from "@/api/events";

export type Way = "connecting" | "live" | "polling" | "away";

export interface Feed {
  events: readonly EventEntry[]; // newest first
  older: string | null; // the cursor of those before; null: that was all
  way: Way;
}

export type Change =
  | { kind: "page"; events: readonly EventEntry[]; next: string | null } // the newest, or those before
  | { kind: "arrived"; events: readonly EventEntry[] } // in the order in which they happened
  | { kind: "way"; way: Way };

export const EMPTY: Feed = { events: [], older: null, way: "connecting" };
const MOST = 2000;

export function changed(feed: Feed, change: Change): Feed {
  switch (change.kind) {
    case "page":
      return { ...feed, events: joined(feed.events, change.events), older: change.next };
    case "arrived":
      if (!change.events.length) return feed;
      return { ...feed, events: joined(change.events.toReversed(), feed.events).slice(0, MOST) };
    case "way":
      return feed.way === change.way ? feed : { ...feed, way: change.way };
  }
}

/** None twice: what comes live may be on a page as well. */
function joined(newer: readonly EventEntry[], older: readonly EventEntry[]): EventEntry[] {
  const known = new Set(newer.map(({ id }) => id));
  return [...newer, ...older.filter(({ id }) => !known.has(id))];
}

/** Where to go on from. */
export const newestId = ({ events }: Feed): string | null => events[0]?.id ?? null;

export interface Run {
  key: string;
  model: string | null;
  events: readonly EventEntry[]; // newest first
}

/** Events of one node stand together: from its launch until it is gone. What belongs to none stands alone. */
export function runsOf(events: readonly EventEntry[]): Run[] {
  const runs = new Map<string, EventEntry[]>();
  for (const event of events) {
    const key = event.node ? `node ${event.node}` : `event ${event.id}`;
    const among = runs.get(key);
    if (among) among.push(event);
    else runs.set(key, [event]);
  }
  return [...runs].map(([key, among]) => ({
    key,
    model: among.find(({ model }) => model)?.model ?? null,
    events: among,
  }));
}

export const isTrouble = ({ kind }: EventEntry): boolean => /fail|refus|abandon|lost|denied|exceed|stuck/.test(kind);

/** Where a kind's own name is ours, not the reader's. */
const KINDS: Readonly<Record<string, string>> = {
  "model-changed": "settings changed",
  "wish-refused": "start given up",
  "launch-refused": "AWS gave no machine",
  "launch-abandoned": "launch given up",
  "node-phase": "next phase",
  "node-draining": "going to sleep",
  "node-ready": "ready",
  "task-failed": "control plane ended by itself",
  "tasks-set": "control plane scaled",
  "listener-turned": "requests rerouted",
  "front-moved": "control plane",
  "notice-given-up": "notice not delivered",
};

export const kindInWords = (kind: string): string =>
  KINDS[kind] ?? kind.replaceAll(/[_-]/g, " ").replace(/^node /, "machine ");
