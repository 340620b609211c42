/** Where a provider sends the browser back to: what it says is swapped for a session. */

import type { Config } from "@/api/config";
import { messageOf } from "@/api/errors";
import { sessionQuery } from "@/api/queries";
import { createSession, parseReturned, rememberSession, safeReturn } from "@/api/session";
import { Loading } from "@/ui/page";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useLocation } from "wouter";
import { SignIn } from "./sign-in";
import { tellOthers } from "./watch";

const arrived = parseReturned(location.hash, location.search);
let swap: ReturnType<typeof createSession> | undefined; // a state is good once, and effects may run twice

export function Returned({ config }: { config: Config }) {
  const [problem, setProblem] = useState(typeof arrived === "string" ? arrived : "");
  const [, navigate] = useLocation();
  const client = useQueryClient();
  useEffect(() => {
    history.replaceState(history.state, "", "/signin"); // a token does not stay in the address
    if (typeof arrived === "string") return;
    swap ??= createSession(arrived);
    swap.then(
      (session) => {
        rememberSession(session);
        client.setQueryData(sessionQuery.queryKey, session);
        tellOthers("in");
        navigate(safeReturn(session.return_to), { replace: true });
      },
      (error: unknown) => setProblem(messageOf(error)),
    );
  }, [client, navigate]);
  if (problem) return <SignIn config={config} problem={problem} />;
  return (
    <main className="sign-in">
      <Loading what="your session" />
    </main>
  );
}
