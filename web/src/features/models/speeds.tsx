/** How busy a model was: its tokens a day, of the last two weeks. */

import { getUsage } from "@/api/usage";
import { count } from "@/lib/format";
import { daysBefore, zone } from "@/lib/days";
import { Spark } from "@/ui/charts";
import { useQuery } from "@tanstack/react-query";

const DAYS = 14;

export function Speeds({ model }: { model: string }) {
  const days = daysBefore(Date.now(), DAYS);
  const [from = "", to = ""] = [days[0], days.at(-1)];
  const { data } = useQuery({
    queryKey: ["usage", "model", model, from, to],
    queryFn: ({ signal }) => getUsage({ from, to, zone: zone(), by: "day" }, signal, model),
    staleTime: 5 * 60_000,
    retry: false,
  });
  if (!data) return null;
  const values = days.map((day) => data.rows.find((row) => row.day === day)?.completion_tokens ?? 0);
  const sum = values.reduce((all, value) => all + value, 0);
  if (!sum) return null;
  return (
    <div className="speeds">
      <Spark values={values} label={`Tokens a day, last ${DAYS} days`} />
      <span className="muted numbers">
        {count(sum)} tokens in {DAYS} days
      </span>
    </div>
  );
}
