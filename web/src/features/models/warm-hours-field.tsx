/** When the model is kept awake by the clock: a line for each window. */

import { zone as ownZone } from "@/lib/days";
import { usd } from "@/lib/format";
import { Field } from "@/ui/field";
import { Icon } from "@/ui/icons";
import { DAYS, hoursAWeek, MAX_WINDOWS, windowProblem, type Days, type Window } from "./warm-hours";

interface Props {
  windows: readonly Window[];
  hourly: number | null; // dollars
  hint: string; // what Pulumi has, where that differs
  onChange: (windows: Window[]) => void;
}

export function WarmHours({ windows, hourly, hint, onChange }: Props) {
  const changed = (at: number, change: Partial<Window>) =>
    onChange(windows.map((each, i) => (i === at ? { ...each, ...change } : each)));
  const week = hoursAWeek(windows);
  return (
    <fieldset className="plain warm">
      <legend>Warm hours</legend>
      <p className="hint">Started when they begin, and kept awake until they end</p>
      {windows.map((window, i) => (
        <Line
          // oxlint-disable-next-line react/no-array-index-key -- a window is its place in the list
          key={i}
          window={window}
          name={`window ${i + 1}`}
          onChange={(change) => changed(i, change)}
          onRemove={() => onChange(windows.filter((_, at) => at !== i))}
        />
      ))}
      <div className="row">
        <button
          type="button"
          className="button"
          disabled={windows.length >= MAX_WINDOWS}
          onClick={() => onChange([...windows, { days: "1-5", time: "09:00", cron: "", hours: "8", zone: ownZone() }])}
        >
          <Icon name="plus" size={16} /> Add warm hours
        </button>
        {windows.length > 0 && week !== null && hourly !== null && Number.isFinite(week) && (
          <span className="muted numbers">
            {Math.round(week * 10) / 10} h a week: about {usd(week * hourly)}
          </span>
        )}
      </div>
      {hint && <p className="hint">{hint}</p>}
    </fieldset>
  );
}

interface LineProps {
  window: Window;
  name: string;
  onChange: (change: Partial<Window>) => void;
  onRemove: () => void;
}

function Line({ window, name, onChange, onRemove }: LineProps) {
  const problem = windowProblem(window);
  return (
    <div className="warm-line" role="group" aria-label={name}>
      <Field label="Days">
        {(ids) => (
          <select {...ids} value={window.days} onChange={({ target }) => onChange({ days: target.value as Days })}>
            {Object.entries(DAYS).map(([days, word]) => (
              <option key={days} value={days}>
                {word}
              </option>
            ))}
            <option value="cron">by a cron line</option>
          </select>
        )}
      </Field>
      {window.days === "cron" ? (
        <Field label="Cron line">
          {(ids) => (
            <input
              {...ids}
              className="mono"
              value={window.cron}
              spellCheck={false}
              onChange={({ target }) => onChange({ cron: target.value })}
            />
          )}
        </Field>
      ) : (
        <Field label="From">
          {(ids) => (
            <input
              {...ids}
              type="time"
              value={window.time}
              onChange={({ target }) => onChange({ time: target.value })}
            />
          )}
        </Field>
      )}
      <Field label="Time zone">
        {(ids) => (
          <input
            {...ids}
            value={window.zone}
            spellCheck={false}
            onChange={({ target }) => onChange({ zone: target.value })}
          />
        )}
      </Field>
      <Field label="Hours">
        {(ids) => (
          <input
            {...ids}
            inputMode="decimal"
            value={window.hours}
            onChange={({ target }) => onChange({ hours: target.value })}
          />
        )}
      </Field>
      <button type="button" className="quiet" onClick={onRemove} aria-label={`Remove ${name}`}>
        <Icon name="trash" />
      </button>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
    </div>
  );
}
