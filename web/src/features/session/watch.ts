/** Whether somebody is signed in, in all tabs of this browser alike. */

import { sessionEnded } from "@/api/client";
import { ApiError } from "@/api/errors";
import { sessionQuery } from "@/api/queries";
import { endSession, rememberSession, type Session } from "@/api/session";
import { useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

const CHANNEL = "diogenes.session";
const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(CHANNEL);

export function tellOthers(change: "in" | "out"): void {
  channel?.postMessage(change);
}

export type Signed = { state: "asking" } | { state: "out" } | { state: "in"; session: Session; ended: boolean }; // ended: the page stays, and what it does not send is kept

export function useSigned(): Signed {
  const client = useQueryClient();
  const { data, error, isFetchedAfterMount } = useQuery(sessionQuery);
  const [left, setLeft] = useState(false);
  // Once in, a page is not taken from under its reader: what is written stays.
  const [wasIn, setWasIn] = useState(false);
  const refused = error instanceof ApiError && error.unauthenticated;

  useEffect(() => {
    if (data && isFetchedAfterMount && !refused) {
      setWasIn(true);
      rememberSession(data);
    }
  }, [data, isFetchedAfterMount, refused]);

  useEffect(() => {
    const heard = ({ data: change }: MessageEvent<string>) => {
      setLeft(change === "out");
      if (change === "in") void client.invalidateQueries();
    };
    channel?.addEventListener("message", heard);
    const stop = sessionEnded.on(() => {
      if (client.getQueryState(sessionQuery.queryKey)?.error) return; // known already
      void client.invalidateQueries(sessionQuery);
    });
    return () => {
      channel?.removeEventListener("message", heard);
      stop();
    };
  }, [client]);

  if (left) return { state: "out" };
  if (refused) return wasIn && data ? { state: "in", session: data, ended: true } : { state: "out" };
  if (data) return { state: "in", session: data, ended: false };
  return error ? { state: "out" } : { state: "asking" };
}

/** Ends the session here, or everywhere; then the page begins anew. Chats and drafts stay in the browser. */
export async function signOut(client: QueryClient, { everywhere = false } = {}): Promise<void> {
  await endSession({ everywhere }).catch((error: unknown) => {
    if (!(error instanceof ApiError) || !error.unauthenticated) throw error; // it had ended anyway
  });
  rememberSession(undefined);
  localStorage.removeItem("diogenes.models");
  tellOthers("out");
  client.clear();
  location.assign("/");
}
