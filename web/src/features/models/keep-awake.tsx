/** How long a model that is ready stays so, though nobody asks. */

import { messageOf } from "@/api/errors";
import { keepAwake, type Model } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { timeOfDay } from "@/lib/format";
import { useNow } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

const HOUR_S = 3600;

export function KeepAwake({ model }: { model: Model }) {
  const client = useQueryClient();
  const [time, setTime] = useState<string>();
  const now = useNow(30_000);
  const keep = useMutation({
    mutationFn: (until: number | null) => keepAwake(model.name, until),
    onSettled: () => client.invalidateQueries(modelsQuery),
  });
  const choose = (value: string) => {
    setTime(value === "time" ? "18:00" : undefined);
    if (value && value !== "time") keep.mutate(untilOf(value, Date.now() / 1000));
  };
  const kept = model.keep_awake_until && model.keep_awake_until > now ? model.keep_awake_until : null;
  return (
    <div className="keep">
      <label className="pick">
        <span className="muted">Keep awake</span>
        <select
          value={time === undefined ? "" : "time"}
          disabled={keep.isPending}
          onChange={(event) => choose(event.target.value)}
          aria-label={`Keep ${model.name} awake`}
        >
          <option value="">{kept ? `until ${timeOfDay(kept)}` : "as long as it is used"}</option>
          <option value="1">for 1 hour</option>
          <option value="4">for 4 hours</option>
          <option value="time">until…</option>
        </select>
      </label>
      {time !== undefined && (
        <form
          className="row"
          onSubmit={(event) => {
            event.preventDefault();
            keep.mutate(untilOf(time, Date.now() / 1000));
            setTime(undefined);
          }}
        >
          <input
            type="time"
            required
            aria-label="Until"
            value={time}
            onChange={({ target }) => setTime(target.value)}
          />
          <button type="submit" className="button">
            Keep
          </button>
        </form>
      )}
      {kept && (
        <button type="button" className="button" disabled={keep.isPending} onClick={() => keep.mutate(null)}>
          No longer<span className="visually-hidden"> keep {model.name} awake</span>
        </button>
      )}
      {keep.error && (
        <span className="problem" role="alert">
          {messageOf(keep.error)}
        </span>
      )}
    </div>
  );
}

/** Unix seconds: so many hours from now, or the next time that the clock shows this. */
export function untilOf(value: string, now: number): number {
  if (!value.includes(":")) return Math.round(now + Number(value) * HOUR_S);
  const [hours = 0, minutes = 0] = value.split(":").map(Number);
  const then = new Date(now * 1000);
  then.setHours(hours, minutes, 0, 0);
  if (then.getTime() / 1000 <= now + 60) then.setDate(then.getDate() + 1);
  return Math.min(then.getTime() / 1000, now + 24 * HOUR_S - 1);
}
