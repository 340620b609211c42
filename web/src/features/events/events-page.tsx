import type { EventEntry } from "@/api/events";
import { dayAndTime, timeOfDay, about } from "@/lib/format";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { useModels } from "@/ui/use-now";
import { useState } from "react";
import { isTrouble, kindInWords, runsOf, type Feed, type Run, type Way } from "./feed";
import { useFeed } from "./use-feed";
import "./events.css";

const WAYS: Record<Way, string> = {
  connecting: "connecting",
  live: "live",
  polling: "asleep: checked every 10 s",
  away: "not reachable, trying again",
};

export default function EventsPage() {
  const { feed, problem, more } = useFeed();
  const [model, setModel] = useState("");
  const [kind, setKind] = useState("");
  const shown = feed.events.filter((event) => (!model || event.model === model) && (!kind || event.kind === kind));
  return (
    <Page title="Events" action={<Live way={feed.way} />}>
      <Filters feed={feed} model={model} kind={kind} onModel={setModel} onKind={setKind} />
      {problem && <Trouble error={problem} />}
      {feed.way === "connecting" && !feed.events.length && !problem ? (
        <Loading what="the events" />
      ) : shown.length ? (
        <Runs runs={runsOf(shown)} />
      ) : (
        <Empty title={feed.events.length ? "No event matches." : "Nothing has happened yet."} />
      )}
      {feed.older && (
        <div className="row">
          <button type="button" className="button" onClick={more}>
            Earlier events
          </button>
        </div>
      )}
    </Page>
  );
}

function Live({ way }: { way: Way }) {
  return (
    <span className="state" data-state={way === "live" ? "ready" : "cold"} role="status">
      <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">
        <circle cx="5" cy="5" r="4" />
      </svg>
      {WAYS[way]}
    </span>
  );
}

function Filters({
  feed,
  model,
  kind,
  onModel,
  onKind,
}: {
  feed: Feed;
  model: string;
  kind: string;
  onModel: (model: string) => void;
  onKind: (kind: string) => void;
}) {
  const { data: models } = useModels();
  const kinds = [...new Set(feed.events.map((event) => event.kind))].toSorted();
  return (
    <div className="row filters">
      <select aria-label="Model" value={model} onChange={({ target }) => onModel(target.value)}>
        <option value="">all models</option>
        {models?.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
      </select>
      <select aria-label="Kind" value={kind} onChange={({ target }) => onKind(target.value)}>
        <option value="">all kinds</option>
        {kinds.map((each) => (
          <option key={each} value={each}>
            {kindInWords(each)}
          </option>
        ))}
      </select>
    </div>
  );
}

function Runs({ runs }: { runs: readonly Run[] }) {
  return (
    <div role="log" aria-label="Events">
      <ol className="runs">
        {runs.map((run) =>
          run.events.length > 1 ? <RunOf key={run.key} run={run} /> : <Line key={run.key} event={run.events[0]} />,
        )}
      </ol>
    </div>
  );
}

function RunOf({ run: { model, events } }: { run: Run }) {
  const [last, first] = [events[0], events.at(-1)];
  if (!last || !first) return null;
  return (
    <li className="run">
      <details open={isTrouble(last) || undefined}>
        <summary>
          <time className="numbers" dateTime={iso(last.at)}>
            {dayAndTime(last.at, Date.now() / 1000)}
          </time>
          <span className="run-name">{model ?? "a machine"}</span>
          <span className={isTrouble(last) ? "problem" : "muted"}>
            {kindInWords(last.kind)} · {events.length} events
            {last.at - first.at >= 5 ? ` in ${about(last.at - first.at)}` : ""}
          </span>
        </summary>
        <ol>
          {events.map((event) => (
            <Line key={event.id} event={event} short />
          ))}
        </ol>
      </details>
    </li>
  );
}

function Line({ event, short = false }: { event: EventEntry | undefined; short?: boolean }) {
  if (!event) return null;
  const at = short ? timeOfDay(event.at) : dayAndTime(event.at, Date.now() / 1000);
  return (
    <li className="event" data-trouble={isTrouble(event)}>
      <time className="numbers" dateTime={iso(event.at)}>
        {at}
      </time>
      <span className="event-kind">{kindInWords(event.kind)}</span>
      <span className="event-text">{event.message}</span>
    </li>
  );
}

const iso = (at: number): string => new Date(at * 1000).toISOString();
