/** A question that waits for its model: what is done about it, and what can be. */

import { messageOf } from "@/api/errors";
import { cancelStart, putToSleep, type Failure, type Model } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { spentUsd } from "@/api/start";
import { timeOfDay, usd } from "@/lib/format";
import { Confirm } from "@/ui/dialog";
import { FailurePanel } from "@/ui/failure";
import { StartCard } from "@/ui/start-card";
import { useModels, useNow } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type ReactNode } from "react";
import { Link } from "wouter";
import type { Chats } from "./chats";
import type { Message } from "./conversation";
import type { Outgoing } from "./database";
import { next, type Action } from "./outbox";
import { useOutbox } from "./use-stored";

export function Waiting({ chats, message }: { chats: Chats; message: Message }) {
  const { data: models } = useModels();
  const outgoing = useOutbox(chats)?.find(({ id }) => id === message.id);
  const model = models?.find(({ name }) => name === message.model);
  useScreenOn();
  return (
    <div className="waiting">
      {model?.status === "starting" && <Starting chats={chats} message={message} model={model} />}
      {model && outgoing ? <Told chats={chats} outgoing={outgoing} model={model} /> : <Note model={model} problem="" />}
    </div>
  );
}

/** What comes next, and what can be done about it. */
function Told({ chats, outgoing, model }: { chats: Chats; outgoing: Outgoing; model: Model }) {
  const action = next(outgoing, model, useNow(5000));
  const failure = model.failure ?? outgoing.failure;
  if (failure && (model.status === "failed" || action.kind === "hold")) {
    return <Failed chats={chats} id={outgoing.id} failure={failure} action={action} />;
  }
  if (action.kind === "ask") return <Stopped chats={chats} id={outgoing.id} model={model} />;
  return (
    <>
      <Note model={model} problem={outgoing.problem} />
      {["cold", "draining"].includes(model.status) && <DoNotSend chats={chats} id={outgoing.id} />}
    </>
  );
}

function Note({ model, problem }: { model: Model | undefined; problem: string }) {
  const { error } = useModels();
  return (
    <p className="muted waiting-note">
      {noteOf(model, error)} {problem && `${problem} It is tried again.`} Your message is kept in this browser and sent
      when the model is ready.
    </p>
  );
}

/** The start that was under way is no more, and nobody said why. */
function Stopped({ chats, id, model }: { chats: Chats; id: string; model: Model }) {
  return (
    <>
      <p className="waiting-note" role="status">
        {model.name} went back to sleep before it had your message: it was stopped, or this page was away for long.
        Waking it again costs money, so it is not done by itself.
      </p>
      <DoNotSend chats={chats} id={id}>
        <button type="button" className="button primary" onClick={() => void chats.tryNow(id)}>
          Wake it again
        </button>
      </DoNotSend>
    </>
  );
}

function DoNotSend({ chats, id, children }: { chats: Chats; id: string; children?: ReactNode }) {
  return (
    <div className="row">
      {children}
      <button type="button" className="button" onClick={() => void chats.stop(id)}>
        Do not send
      </button>
    </div>
  );
}

function noteOf(model: Model | undefined, error: unknown): string {
  if (error) return `${messageOf(error)}`;
  if (!model) return "Looking how the model is.";
  switch (model.status) {
    case "cold":
      return `${model.name} is asleep. Asking for it.`;
    case "draining":
      return `${model.name} is going to sleep, and will be woken again.`;
    case "ready":
      return `${model.name} is ready.`;
    default:
      return "";
  }
}

function Starting({ chats, message, model }: { chats: Chats; message: Message; model: Model }) {
  const [asking, setAsking] = useState(false);
  const [told, setTold] = useState<boolean>();
  const client = useQueryClient();
  const cancel = useMutation({
    mutationFn: async () => {
      // Between the look and the click it may have become ready.
      await cancelStart(model.name).catch(() => putToSleep(model.name));
    },
    onSettled: () => client.invalidateQueries(modelsQuery),
  });
  const spent = spentUsd(model, Date.now() / 1000);
  return (
    <StartCard
      model={model}
      advice={
        <>
          Look at its log under <Link href="/models">Models</Link>, or cancel and start again.
        </>
      }
    >
      <button type="button" className="button" onClick={() => setAsking(true)} disabled={cancel.isPending}>
        Cancel
      </button>
      {"Notification" in window && Notification.permission !== "denied" && (
        <button
          type="button"
          className="button"
          disabled={told}
          onClick={() => void chats.notify(message.id).then(setTold)}
        >
          {told ? "You will be notified" : told === false ? "The browser refused" : "Notify me when ready"}
        </button>
      )}
      {asking && (
        <Confirm title="Stop the GPU?" action="Stop it" onDo={() => cancel.mutate()} onClose={() => setAsking(false)}>
          <p>
            {spent === null ? "" : `You have spent ${usd(spent)}. `}AWS bills at least 60 s. Your question stays in this
            chat and can be sent again.
          </p>
        </Confirm>
      )}
    </StartCard>
  );
}

interface FailedProps {
  chats: Chats;
  id: string;
  failure: Failure;
  action: Action;
}

function Failed({ chats, id, failure, action }: FailedProps) {
  return (
    <>
      <FailurePanel failure={failure}>
        <button type="button" className="button" onClick={() => void chats.tryNow(id)}>
          Try now
        </button>
        <button type="button" className="button" onClick={() => void chats.stop(id)}>
          Stop trying
        </button>
      </FailurePanel>
      <p className="muted waiting-note" role="status">
        You pay nothing meanwhile.
        {action.kind === "hold" && ` Next try ${timeOfDay(action.until)}, for 30 min.`} Your message is kept in this
        browser.
      </p>
    </>
  );
}

/** A phone that goes dark stops the page; this asks it not to. */
function useScreenOn(): void {
  useEffect(() => {
    if (!("wakeLock" in navigator) || !matchMedia("(pointer: coarse)").matches) return undefined;
    let lock: WakeLockSentinel | undefined;
    let here = true;
    const hold = () => {
      if (document.visibilityState !== "visible") return;
      navigator.wakeLock.request("screen").then(
        (held) => {
          if (here) lock = held;
          else void held.release();
        },
        () => undefined, // a low battery says no
      );
    };
    hold();
    document.addEventListener("visibilitychange", hold);
    return () => {
      here = false;
      document.removeEventListener("visibilitychange", hold);
      void lock?.release();
    };
  }, []);
}
