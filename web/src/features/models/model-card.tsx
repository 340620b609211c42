/** One model: what it does, what it costs, and the hand on its switch. */

import { messageOf } from "@/api/errors";
import { cancelStart, hourlyUsd, pathName, putToSleep, wake, type Model } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { spentUsd } from "@/api/start";
import { plural, timeOfDay, usd } from "@/lib/format";
import { picked } from "@/ui/ahead";
import { Confirm } from "@/ui/dialog";
import { FailurePanel } from "@/ui/failure";
import { Icon } from "@/ui/icons";
import { StartCard } from "@/ui/start-card";
import { idleInWords, StateMark } from "@/ui/state";
import { useNow } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { Instances } from "./instances";
import { KeepAwake } from "./keep-awake";
import { LogTail } from "./log-tail";
import { Speeds } from "./speeds";
import { inWords } from "./warm-hours";

type Doing = "wake" | "sleep" | "cancel";

const DO: Record<Doing, (name: string) => Promise<void>> = { wake, sleep: putToSleep, cancel: cancelStart };

export function ModelCard({ model }: { model: Model }) {
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (doing: Doing) => DO[doing](model.name),
    onSettled: () => client.invalidateQueries(modelsQuery),
  });
  const [asking, setAsking] = useState<Doing>();
  return (
    <article className="card model" aria-label={model.name}>
      <header className="model-head">
        <h2>{model.name}</h2>
        <StateMark state={model.status} />
      </header>
      <Facts model={model} />
      <WarmHours model={model} />
      {model.status === "starting" && <StartCard model={model} />}
      {model.failure && model.status === "failed" && <FailurePanel failure={model.failure} />}
      <Instances model={model} />
      {model.status === "ready" && <Speeds model={model.name} />}
      <div className="row">
        <Switch model={model} busy={change.isPending} onDo={(doing) => change.mutate(doing)} onAsk={setAsking} />
        <Link className="button" href={`/models/${pathName(model.name)}`}>
          <Icon name="edit" size={16} /> Edit
        </Link>
        {model.status !== "failed" && (
          <Link className="button" href={`/chat?model=${encodeURIComponent(model.name)}`} onClick={() => picked(model)}>
            <Icon name="chat" size={16} /> Chat
          </Link>
        )}
      </div>
      {model.status === "ready" && <KeepAwake model={model} />}
      {change.error && (
        <p className="problem" role="alert">
          {messageOf(change.error)}
        </p>
      )}
      {(model.status === "starting" || model.status === "failed") && <LogTail name={model.name} />}
      {asking && (
        <Sure model={model} doing={asking} onDo={() => change.mutate(asking)} onClose={() => setAsking(undefined)} />
      )}
    </article>
  );
}

function Facts({ model }: { model: Model }) {
  const now = useNow();
  const { instances, effective } = model;
  const hourly = hourlyUsd(model);
  const spent = spentUsd(model, now);
  const kept = model.keep_awake_until && model.keep_awake_until > now ? model.keep_awake_until : null;
  const facts = [
    instances.length ? plural(instances.length, "instance") : effective.instanceTypes.join(", "),
    effective.market && effective.market !== "on-demand" ? effective.market : "",
    hourly === null ? "" : `${usd(hourly)}/h${instances.length ? "" : " while on"}`,
    spent !== null && instances.length ? `${usd(spent)} this time` : "",
    kept ? `kept awake until ${timeOfDay(kept)}` : idleInWords(model, now),
    model.waiting_requests ? `${plural(model.waiting_requests, "request")} waiting` : "",
  ];
  return <p className="muted numbers">{facts.filter(Boolean).join(" · ")}</p>;
}

function WarmHours({ model: { effective, warm_since: since } }: { model: Model }) {
  if (!effective.warmHours?.length) return null;
  return (
    <p className="muted">
      {since === null ? "Warm " : `Warm now, since ${timeOfDay(since)}: `}
      {effective.warmHours.map(inWords).join("; ")}
    </p>
  );
}

interface SwitchProps {
  model: Model;
  busy: boolean;
  onDo: (doing: Doing) => void;
  onAsk: (doing: Doing) => void;
}

function Switch({ model: { status, instances }, busy, onDo, onAsk }: SwitchProps) {
  const working = instances.some(({ running_requests }) => running_requests > 0);
  switch (status) {
    case "starting":
      return (
        <button type="button" className="button" disabled={busy} onClick={() => onAsk("cancel")}>
          Cancel
        </button>
      );
    case "ready":
      return (
        <button
          type="button"
          className="button"
          disabled={busy}
          onClick={() => (working ? onAsk("sleep") : onDo("sleep"))}
        >
          <Icon name="power" size={16} /> Sleep
        </button>
      );
    default:
      return (
        <button type="button" className="button accent" disabled={busy} onClick={() => onDo("wake")}>
          <Icon name="power" size={16} /> {status === "failed" ? "Try again" : "Wake"}
        </button>
      );
  }
}

function Sure({ model, doing, onDo, onClose }: { model: Model; doing: Doing; onDo: () => void; onClose: () => void }) {
  const spent = spentUsd(model, Date.now() / 1000);
  const cancels = doing === "cancel";
  return (
    <Confirm
      title={cancels ? "Stop the GPU?" : `Put ${model.name} to sleep?`}
      action={cancels ? "Stop it" : "Sleep"}
      onDo={onDo}
      onClose={onClose}
    >
      <p>
        {cancels
          ? `${spent === null ? "" : `You have spent ${usd(spent)}. `}AWS bills at least 60 s. Whoever waits for it is told.`
          : "What is being answered may finish; nothing new is taken."}
      </p>
    </Confirm>
  );
}
