/** What the database holds, as React sees it: read again whenever it changes, in this tab or another. */

import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import type { Chats } from "./chats";
import type { Conversation, Message } from "./conversation";
import type { Change, Database } from "./database";
import type { Shown } from "./live";

/** `undefined` until it was read. `load` and `concerns` are those of the first render for a `key`. */
function useStored<T>(
  database: Database,
  key: string,
  load: (database: Database) => Promise<T>,
  concerns: (change: Change) => boolean,
): T | undefined {
  const [state, setState] = useState<{ key: string; value: T }>();
  useEffect(() => {
    let here = true;
    let turn = 0;
    const read = async () => {
      const mine = ++turn;
      const value = await load(database);
      if (here && mine === turn) setState({ key, value }); // a slower, older answer is dropped
    };
    void read();
    const stop = database.onChange((change) => {
      if (change.kind === "all" || concerns(change)) void read();
    });
    return () => {
      here = false;
      stop();
    };
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [database, key]);
  return state?.key === key ? state.value : undefined;
}

export interface Thread {
  conversation: Conversation | undefined;
  messages: Message[];
}

export function useThread({ database }: Chats, id: string | undefined): Thread | undefined {
  return useStored(
    database,
    id ?? "",
    async (db) => ({
      conversation: id ? await db.conversation(id) : undefined,
      messages: id ? await db.messages(id) : [],
    }),
    (change) => change.kind === "conversation" && change.id === id,
  );
}

export function useConversations({ database }: Chats): Conversation[] | undefined {
  return useStored(
    database,
    "conversations",
    (db) => db.conversations(),
    ({ kind }) => kind === "conversation",
  );
}

export function useOutbox({ database }: Chats) {
  return useStored(
    database,
    "outbox",
    (db) => db.outbox(),
    ({ kind }) => kind === "outbox",
  );
}

/** An answer that comes into this tab; undefined when it does not. */
export function useLive({ live }: Chats, id: string): Shown | undefined {
  return useSyncExternalStore(
    useCallback((listener: () => void) => live.on(id, listener), [live, id]),
    () => live.get(id),
  );
}
