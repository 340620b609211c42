/** How fast a model was: the tokens a second that its machines made while they were in use, hour by hour. */

import { getUsage, type UsageRow } from "@/api/usage";
import { dayOf, zone } from "@/lib/days";
import { Spark } from "@/ui/charts";
import { useQuery } from "@tanstack/react-query";

const HOUR_MS = 3_600_000;
const HOURS = 24;

export function Speeds({ model }: { model: string }) {
  const now = Date.now();
  const [from, to] = [dayOf(now - HOURS * HOUR_MS), dayOf(now)];
  const { data } = useQuery({
    queryKey: ["usage", "hour", model, from, to],
    queryFn: ({ signal }) => getUsage({ from, to, zone: zone(), by: "hour" }, signal, model),
    staleTime: 60_000,
    refetchInterval: 60_000,
    retry: false,
  });
  const values = speedsOf(data?.rows ?? [], now);
  const last = values.findLast((value) => value > 0);
  if (last === undefined) return null;
  return (
    <div className="speeds">
      <Spark values={values} label={`Tokens a second by the hour, last ${HOURS} hours`} />
      <span className="muted numbers">{Math.round(last)} tok/s while in use</span>
    </div>
  );
}

/** For each of the last hours, the current one last; 0 where nothing was asked. */
export function speedsOf(rows: readonly UsageRow[], now: number): number[] {
  const speeds = new Map<number, number>();
  for (const { hour, completion_tokens: tokens, busy_seconds: busy } of rows) {
    if (hour && busy > 0) speeds.set(Math.floor(Date.parse(hour) / HOUR_MS), tokens / busy);
  }
  const last = Math.floor(now / HOUR_MS);
  return Array.from({ length: HOURS }, (_, i) => speeds.get(last - HOURS + 1 + i) ?? 0);
}
