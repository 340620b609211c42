/** What happened, newest first; live while the control plane is awake. */

import { call, request } from "./client";
import { sseMessages } from "./sse";
import type { components } from "./types.gen";

export type EventEntry = components["schemas"]["EventEntry"];
export type EventPage = components["schemas"]["EventPage"];

export interface EventFilter {
  model?: string | undefined;
  kind?: string | undefined;
}

export function listEvents(
  { limit = 100, before, after, ...filter }: { limit?: number; before?: string; after?: string } & EventFilter = {},
  signal?: AbortSignal,
): Promise<EventPage> {
  const query = new URLSearchParams({ limit: String(limit) });
  for (const [name, value] of Object.entries({ before, after, ...filter })) if (value) query.set(name, value);
  return request(`/api/events?${query}`, { signal });
}

/** Events as they happen, from the one after `lastId` on. Throws ApiError `asleep_no_stream` while nothing can stream. */
export async function* eventStream(
  lastId: string | null,
  signal: AbortSignal,
  onOpen: () => void,
): AsyncGenerator<EventEntry> {
  const response = await call("/api/events/stream", {
    signal,
    headers: { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) },
  });
  onOpen();
  for await (const message of sseMessages(response, signal)) {
    if (!message.data) continue;
    const told = JSON.parse(message.data) as EventEntry;
    if (told.id) yield told;
  }
}
