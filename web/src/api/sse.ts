/** Server-sent events out of an answer's bytes. `EventSource` can neither POST nor send a header. */

import { createParser, type EventSourceMessage } from "eventsource-parser";

/** The messages of a stream, in order. Comments keep connections alive and are none. Stops reading when left. */
export async function* sseMessages(response: Response, signal?: AbortSignal): AsyncGenerator<EventSourceMessage> {
  if (!response.body) return;
  const arrived: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => void arrived.push(message) });
  const reader = response.body.getReader();
  const decoder = new TextDecoder(); // a character may be cut in two by a packet's end
  try {
    for (;;) {
      const { done, value } = await reader.read();
      parser.feed(done ? decoder.decode() : decoder.decode(value, { stream: true }));
      if (done) parser.reset({ consume: true });
      yield* arrived.splice(0);
      if (done) return;
      signal?.throwIfAborted();
    }
  } finally {
    reader.cancel().catch(() => undefined); // not awaited: nobody has to hear it before we go on
  }
}
