import type { Model } from "@/api/models";
import { getUsage, listBudgets, type Budget } from "@/api/usage";
import { monthOf, zone } from "@/lib/days";
import { microUsd, usd } from "@/lib/format";
import { BudgetBar } from "@/ui/budget-bar";
import { Command } from "@/ui/copy";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { useHourly, useModels } from "@/ui/use-now";
import { useQuery } from "@tanstack/react-query";
import { ModelCard } from "./model-card";
import { FIRST_MODEL } from "./pulumi-lines";
import "./models.css";

export default function ModelsPage() {
  const { data: models, error, refetch } = useModels();
  return (
    <Page title="Models">
      {models ? (
        <Models models={models} />
      ) : error ? (
        <Trouble error={error} again={() => void refetch()} />
      ) : (
        <Loading what="the models" />
      )}
    </Page>
  );
}

function Models({ models }: { models: readonly Model[] }) {
  const quiet = models.every(({ status }) => status === "cold");
  const { all: hourly, controlPlane } = useHourly();
  if (!models.length) return <FirstRun />;
  return (
    <>
      <Money hourly={hourly ?? 0} />
      {quiet && <p className="muted">The jar is quiet. {quietInWords(controlPlane)}</p>}
      <div className="model-cards">
        {models.map((model) => (
          <ModelCard key={model.name} model={model} />
        ))}
      </div>
    </>
  );
}

/** Of models that all sleep; the control plane, which costs little, follows them after a while. */
function quietInWords(controlPlane: number | undefined): string {
  if (controlPlane === undefined) return "";
  if (!controlPlane) return "Nothing runs; nothing costs.";
  return `Only the control plane is awake, for ${usd(controlPlane)}/h; it goes to sleep by itself.`;
}

/** Now, today, this month. */
function Money({ hourly }: { hourly: number }) {
  const days = monthOf(Date.now());
  const [from = "", to = ""] = [days[0], days.at(-1)];
  const { data, isPending } = useQuery({
    queryKey: ["usage", "day", from, to],
    queryFn: ({ signal }) => getUsage({ from, to, zone: zone(), by: "day" }, signal),
    staleTime: 60_000,
    retry: false,
  });
  const { data: budgets, isPending: waits } = useQuery({
    queryKey: ["budgets"],
    queryFn: ({ signal }) => listBudgets(signal),
    staleTime: 60_000,
    retry: false,
  });
  const today = data?.rows.find(({ day }) => day === to)?.micro_usd ?? 0;
  const ahead = budgets?.find(({ scope }) => scope === "speculative");
  return (
    <dl className="money numbers">
      <div>
        <dt>Now</dt>
        <dd>{usd(hourly)}/h</dd>
      </div>
      <div>
        <dt>Today</dt>
        <dd>{data ? microUsd(today) : "–"}</dd>
      </div>
      <div>
        <dt>This month</dt>
        <Spent of={data?.budget} otherwise={data?.total.micro_usd} coming={isPending} label="Of the month’s budget" />
      </div>
      {(ahead ?? waits) && (
        <div>
          <dt>Ahead of questions</dt>
          <Spent of={ahead} coming={waits} label="Of the month’s budget for starts ahead of a question" />
        </div>
      )}
    </dl>
  );
}

interface SpentProps {
  of: Budget | null | undefined;
  otherwise?: number | undefined; // micro-dollars, where there is no budget
  coming: boolean; // then there is room for a budget's line: what stands below is not pushed away
  label: string;
}

function Spent({ of: budget, otherwise, coming, label }: SpentProps) {
  const spent = budget?.spent ?? otherwise;
  return (
    <dd>
      {spent === undefined ? "–" : microUsd(spent)}
      {budget && <span className="muted"> of {microUsd(budget.limit)}</span>}
      {budget && <BudgetBar budget={budget} label={label} />}
      {coming && <span className="budget-bar" aria-hidden="true" />}
    </dd>
  );
}

function FirstRun() {
  return (
    <Empty title="No model is configured yet.">
      <p>
        Which models there are, and on which machines, is Pulumi’s. Where you deployed Diogenes, type for a first one:
      </p>
      <Command text={FIRST_MODEL} />
      <p className="muted">
        It checks that the model fits its GPU before it makes anything. The model then appears here, asleep; it costs
        nothing until somebody asks.
      </p>
    </Empty>
  );
}
