/** The feed as a page shows it: followed while the page is open, and again once one is signed in again. */

import { messageOf } from "@/api/errors";
import { listEvents } from "@/api/events";
import { modelsQuery, sessionQuery } from "@/api/queries";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useReducer, useRef, useState } from "react";
import { changed, EMPTY, newestId, type Change, type Feed } from "./feed";
import { follow } from "./follow";

export interface Followed {
  feed: Feed;
  problem: Error | undefined;
  more: () => void;
}

export function useFeed(): Followed {
  const [feed, change] = useReducer(changed, EMPTY);
  const [problem, setProblem] = useState<Error>();
  const latest = useRef(feed);
  latest.current = feed;
  const client = useQueryClient();
  const failed = useCallback((error: unknown) => setProblem(new Error(messageOf(error))), []);
  const dispatch = useCallback((told: Change) => {
    if (told.kind !== "way") setProblem(undefined); // the server answers again
    change(told);
  }, []);
  const [turn, end] = useTurns();

  useEffect(() => {
    const stop = new AbortController();
    const following = {
      newest: () => newestId(latest.current),
      dispatch,
      signal: stop.signal,
      hidden: () => document.visibilityState === "hidden",
    };
    follow(following).catch((error: unknown) => {
      if (stop.signal.aborted) return;
      failed(error);
      end();
    });
    return () => stop.abort(new Error("the page was left"));
  }, [turn, dispatch, failed, end]);

  const newest = newestId(feed);
  useEffect(() => {
    void client.invalidateQueries(modelsQuery); // something happened: the states may be others
  }, [client, newest]);

  const more = () => {
    if (!feed.older) return;
    setProblem(undefined);
    listEvents({ before: feed.older }).then(({ events, next }) => dispatch({ kind: "page", events, next }), failed);
  };
  return { feed, problem, more };
}

/** A turn that has ended is followed by the next one as soon as the session was found good, in whichever tab. */
function useTurns(): [number, () => void] {
  const { dataUpdatedAt } = useQuery(sessionQuery);
  const [turn, setTurn] = useState(0);
  const over = useRef(false);
  useEffect(() => {
    if (!over.current) return;
    over.current = false;
    setTurn((last) => last + 1);
  }, [dataUpdatedAt]);
  const end = useCallback(() => {
    over.current = true;
  }, []);
  return [turn, end];
}
