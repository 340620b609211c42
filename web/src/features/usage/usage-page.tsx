import { messageOf } from "@/api/errors";
import { listKeys } from "@/api/keys";
import { getUsage, usageCsv, type By, type Usage, type UsageQuery, type UsageRow } from "@/api/usage";
import { daysBefore, monthOf, shortDay, zone } from "@/lib/days";
import { count, microUsd } from "@/lib/format";
import { Bars } from "@/ui/charts";
import { save } from "@/ui/download";
import { Icon } from "@/ui/icons";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { queryOptions, useMutation, useQueries, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { BreakEven } from "./break-even";
import { Budgets } from "./budgets";
import { agrees, barsOf, keyInWords, measureInWords, nameOf, type Measure } from "./table";
import "./usage.css";

type Range = "7" | "30" | "month";

const RANGES: Record<Range, string> = { "7": "7 days", "30": "30 days", month: "This month" };
type TableBy = Exclude<By, "hour">;

const BYS: Record<TableBy, string> = { day: "Day", model: "Model", key: "Key", owner: "Person" };
const MEASURES: Record<Measure, string> = {
  micro_usd: "Cost",
  tokens: "Tokens",
  gpu_seconds: "GPU hours",
  requests: "Requests",
};

type Span = Omit<UsageQuery, "by">;

/** Of all models, or of one. */
const usageQuery = (query: UsageQuery, model?: string) =>
  queryOptions({
    queryKey: ["usage", query, model],
    queryFn: ({ signal }) => getUsage(query, signal, model),
    staleTime: 60_000,
  });

export default function UsagePage({ owner }: { owner: boolean }) {
  const [range, setRange] = useState<Range>("30");
  const [by, setBy] = useState<TableBy>("day");
  const [measure, setMeasure] = useState<Measure>("micro_usd");
  const days = range === "month" ? monthOf(Date.now()) : daysBefore(Date.now(), Number(range));
  const [person, setPerson] = useState("");
  const everybody: Span = { from: days[0] ?? "", to: days.at(-1) ?? "", zone: zone() };
  const span: Span = person ? { ...everybody, owner: person } : everybody;
  const query: UsageQuery = { ...span, by };
  const names = useKeyNames(owner);
  const { data, error, refetch } = useQuery({ ...usageQuery(query), placeholderData: (before) => before });
  return (
    <Page title="Usage" action={<Csv query={query} />}>
      <div className="choices">
        <Choice label="Days" options={RANGES} value={range} onChange={setRange} />
        <Choice label="Chart" options={MEASURES} value={measure} onChange={setMeasure} />
        {owner && <People span={everybody} value={person} onChange={setPerson} />}
        <span className="muted">days in {zone()}</span>
      </div>
      {error && !data ? (
        <Trouble error={error} again={() => void refetch()} />
      ) : (
        <>
          <Chart days={days} span={span} measure={measure} />
          <Choice
            label="Table by"
            options={owner ? BYS : { day: BYS.day, model: BYS.model, key: BYS.key }}
            value={by}
            onChange={setBy}
          />
          {/* What stands below the table waits for it: else it would be pushed away. */}
          {data ? (
            <>
              <Table usage={data} by={by} names={names} />
              <BreakEven days={span} />
              <Budgets owner={owner} names={names} />
            </>
          ) : (
            <Loading what="the figures" />
          )}
        </>
      )}
    </Page>
  );
}

function Choice<T extends string>({
  label,
  options,
  value,
  onChange,
}: {
  label: string;
  options: Partial<Record<T, string>>;
  value: T;
  onChange: (value: T) => void;
}) {
  return (
    <label className="pick">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.target.value as T)}>
        {(Object.entries(options) as [T, string][]).map(([name, word]) => (
          <option key={name} value={name}>
            {word}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Everybody together, or one of those who spent something in these days; who was chosen stays. */
function People({ span, value, onChange }: { span: Span; value: string; onChange: (email: string) => void }) {
  const { data } = useQuery(usageQuery({ ...span, by: "owner" }));
  const emails = new Set(data?.rows.map((row) => row.owner ?? "").filter(Boolean));
  if (value) emails.add(value);
  const options = Object.fromEntries([["", "everybody"], ...[...emails].map((email) => [email, email])]);
  return <Choice label="Person" options={options} value={value} onChange={onChange} />;
}

/** What keys are called, by their ids; those of all for the owner. */
function useKeyNames(owner: boolean): ReadonlyMap<string, string> {
  const { data } = useQuery({
    queryKey: ["keys", owner],
    queryFn: ({ signal }) => listKeys(owner, signal),
    staleTime: 60_000,
    retry: false,
  });
  return useMemo(() => new Map(data?.map(({ key_id: id, name }) => [id, name])), [data]);
}

/** By day, stacked by model: one question per model, since the server groups by one thing.
 *
 * The models are those that were used, not those that are configured now; the control plane is among them.
 */
function Chart({ days, span, measure }: { days: readonly string[]; span: Span; measure: Measure }) {
  const { data: used, error, isLoading } = useQuery(usageQuery({ ...span, by: "model" }));
  const names = used?.rows.map((row) => row.model ?? "") ?? [];
  const found = useQueries({ queries: names.map((name) => usageQuery({ ...span, by: "day" }, name)) });
  const series = names.map((name, i) => ({ name, rows: found[i]?.data?.rows ?? [] }));
  const { bars, names: shown } = barsOf(days, series, measure);
  const failed = error ?? found.find((each) => each.error)?.error;
  if (failed) return <p className="problem">There is no chart: {messageOf(failed)}</p>;
  if (isLoading || found.some((each) => each.isLoading)) {
    return (
      <div className="chart pending">
        <Loading what="the chart" />
      </div>
    );
  }
  return (
    <Bars bars={bars} names={shown} label={`${MEASURES[measure]} per day`} format={(v) => measureInWords(v, measure)} />
  );
}

function Table({
  usage: { rows, total },
  by,
  names,
}: {
  usage: Usage;
  by: TableBy;
  names: ReadonlyMap<string, string>;
}) {
  if (!rows.length) {
    return (
      <Empty title="Nothing was used in these days.">
        <p className="muted">And nothing was paid for it.</p>
      </Empty>
    );
  }
  const name = (row: UsageRow) =>
    by === "key" ? keyInWords(row, names) : by === "day" ? shortDay(nameOf(row, by)) : nameOf(row, by);
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it
    <div className="figures-table paired" tabIndex={0} role="region" aria-label="Figures">
      <table className="numbers">
        <thead>
          <tr>
            <th scope="col">{BYS[by]}</th>
            <th scope="col">Cost</th>
            <th scope="col">GPU hours</th>
            <th scope="col">Requests</th>
            <th scope="col">Prompt tokens</th>
            <th scope="col">of which cached</th>
            <th scope="col">Answer tokens</th>
            <th scope="col">of which reasoning</th>
          </tr>
        </thead>
        <tbody>
          {(by === "day" ? rows.toReversed() : rows).map((row) => (
            <Row key={`${nameOf(row, by)} ${row.owner ?? ""}`} name={name(row)} figures={row} />
          ))}
        </tbody>
        <tfoot>
          <Row name="Total" figures={total} />
        </tfoot>
      </table>
      {!agrees(rows, total) && (
        <p className="problem" role="alert">
          The rows do not add up to the total. Please report this.
        </p>
      )}
    </div>
  );
}

function Row({ name, figures }: { name: string; figures: Usage["total"] }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td data-label="Cost">{microUsd(figures.micro_usd)}</td>
      <td data-label="GPU hours">{(figures.gpu_seconds / 3600).toFixed(2)}</td>
      <td data-label="Requests">{count(figures.requests)}</td>
      <td data-label="Prompt tokens">{count(figures.prompt_tokens)}</td>
      <td data-label="cached">{count(figures.cached_tokens)}</td>
      <td data-label="Answer tokens">{count(figures.completion_tokens)}</td>
      <td data-label="reasoning">{count(figures.reasoning_tokens)}</td>
    </tr>
  );
}

function Csv({ query }: { query: UsageQuery }) {
  const load = useMutation({
    mutationFn: async () => save(`diogenes-${query.by}-${query.from}-${query.to}.csv`, await usageCsv(query)),
  });
  return (
    <>
      {load.error && (
        <p className="problem" role="alert">
          {messageOf(load.error)}
        </p>
      )}
      <button type="button" className="button" disabled={load.isPending} onClick={() => load.mutate()}>
        <Icon name="download" size={16} /> CSV
      </button>
    </>
  );
}
