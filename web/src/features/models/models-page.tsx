import { hourlyUsd, type Model } from "@/api/models";
import { getUsage, limitOf } from "@/api/usage";
import { monthOf, zone } from "@/lib/days";
import { microUsd, usd } from "@/lib/format";
import { Command } from "@/ui/copy";
import { Empty, Loading, Page, Trouble } from "@/ui/page";
import { useModels } from "@/ui/use-now";
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
  if (!models.length) return <FirstRun />;
  const quiet = models.every(({ status }) => status === "cold");
  return (
    <>
      <Money models={models} />
      {quiet && <p className="muted">The jar is quiet. Nothing runs; nothing costs.</p>}
      <div className="model-cards">
        {models.map((model) => (
          <ModelCard key={model.name} model={model} />
        ))}
      </div>
    </>
  );
}

/** Now, today, this month. */
function Money({ models }: { models: readonly Model[] }) {
  const now = models.reduce((sum, model) => sum + (model.instances.length ? (hourlyUsd(model) ?? 0) : 0), 0);
  const days = monthOf(Date.now());
  const [from = "", to = ""] = [days[0], days.at(-1)];
  const { data } = useQuery({
    queryKey: ["usage", "day", from, to],
    queryFn: ({ signal }) => getUsage({ from, to, zone: zone(), by: "day" }, signal),
    staleTime: 60_000,
    retry: false,
  });
  const today = data?.rows.find(({ day }) => day === to)?.micro_usd ?? 0;
  const limit = data?.budget ? limitOf(data.budget) : null;
  return (
    <dl className="money numbers">
      <div>
        <dt>Now</dt>
        <dd>{usd(now)}/h</dd>
      </div>
      {data && (
        <>
          <div>
            <dt>Today</dt>
            <dd>{microUsd(today)}</dd>
          </div>
          <div>
            <dt>This month</dt>
            <dd>
              {microUsd(data.total.micro_usd)}
              {limit ? <span className="muted"> of {microUsd(limit)}</span> : ""}
              {limit ? (
                <progress
                  max={limit}
                  value={Math.min(limit, data.total.micro_usd)}
                  aria-label="Of the month’s budget"
                />
              ) : null}
            </dd>
          </div>
        </>
      )}
    </dl>
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
