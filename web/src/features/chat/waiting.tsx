/** A question that waits for its model: what is done about it, and what can be. */

import { messageOf } from "@/api/errors";
import { cancelStart, putToSleep, type Model } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { spentUsd } from "@/api/start";
import { timeOfDay, usd } from "@/lib/format";
import { Confirm } from "@/ui/dialog";
import { FailurePanel } from "@/ui/failure";
import { StartCard } from "@/ui/start-card";
import { useModels, useNow } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { Chats } from "./chats";
import type { Message } from "./conversation";
import type { Outgoing } from "./database";
import { next } from "./outbox";
import { useOutbox } from "./use-stored";

export function Waiting({ chats, message }: { chats: Chats; message: Message }) {
  const { data: models, error } = useModels();
  const outgoing = useOutbox(chats)?.find(({ id }) => id === message.id);
  const model = models?.find(({ name }) => name === message.model);
  useScreenOn();
  return (
    <div className="waiting">
      {model?.status === "starting" && <Starting chats={chats} message={message} model={model} />}
      {model?.status === "failed" && outgoing && <Failed chats={chats} outgoing={outgoing} model={model} />}
      {model?.status !== "failed" && (
        <p className="muted waiting-note">
          {noteOf(model, error)} Your message is kept in this browser and sent when the model is ready.
        </p>
      )}
      {model && ["cold", "draining"].includes(model.status) && (
        <div className="row">
          <button type="button" className="button" onClick={() => void chats.stop(message.id)}>
            Do not send
          </button>
        </div>
      )}
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
      await chats.stop(message.id);
      // Between the look and the click it may have become ready.
      await cancelStart(model.name).catch(() => putToSleep(model.name));
    },
    onSettled: () => client.invalidateQueries(modelsQuery),
  });
  const spent = spentUsd(model, Date.now() / 1000);
  return (
    <StartCard model={model}>
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
          {told ? "You will be told" : told === false ? "The browser refused" : "Tell me when it is there"}
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

function Failed({ chats, outgoing, model }: { chats: Chats; outgoing: Outgoing; model: Model }) {
  const now = useNow(5000);
  if (!model.failure) return null;
  const action = next(outgoing, model, now);
  return (
    <>
      <FailurePanel failure={model.failure}>
        <button type="button" className="button" onClick={() => void chats.tryNow(outgoing.id)}>
          Try now
        </button>
        <button type="button" className="button" onClick={() => void chats.stop(outgoing.id)}>
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
