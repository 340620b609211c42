/** The machines of a model, a line each; and one more, where it may have one. */

import { wake, type Instance, type Model } from "@/api/models";
import { modelsQuery } from "@/api/queries";
import { phaseWord } from "@/api/start";
import { messageOf } from "@/api/errors";
import { about, plural } from "@/lib/format";
import { Icon } from "@/ui/icons";
import { useNow } from "@/ui/use-now";
import { useMutation, useQueryClient } from "@tanstack/react-query";

export function Instances({ model }: { model: Model }) {
  const now = useNow(5000);
  const { instances } = model;
  if (!instances.length) return null;
  return (
    <>
      <ul className="instances" aria-label={`Instances of ${model.name}`}>
        {instances.map((instance) => (
          <li key={instance.instance_id}>
            <span>{stateInWords(instance)}</span>
            <span className="muted numbers">{factsOf(instance, now).join(" · ")}</span>
          </li>
        ))}
      </ul>
      {model.status === "ready" && <OneMore model={model} />}
    </>
  );
}

const WORDS: Record<string, string> = { ready: "Ready", draining: "Going to sleep", failed: "Failed" };

/** Where it is on its way; one that got no further says why. */
export function stateInWords({ status, phases, reason }: Instance): string {
  const word = WORDS[status] ?? phaseWord(phases.at(-1)?.phase ?? "launch");
  return reason && status !== "ready" ? `${word}: ${reason}` : word;
}

/** How many serve, or will: what goes or failed is not one of them, nor does the server count it. */
export const servingOf = (instances: readonly Pick<Instance, "status">[]): number =>
  instances.filter(({ status }) => status === "starting" || status === "ready").length;

function factsOf(instance: Instance, now: number): string[] {
  return [
    instance.instance_type,
    instance.zone,
    instance.market === "on-demand" ? "" : "Spot",
    instance.running_requests ? plural(instance.running_requests, "request") : "",
    `for ${about(now - (instance.ready_at ?? instance.launched_at))}`,
  ].filter(Boolean);
}

function OneMore({ model: { name, instances, effective } }: { model: Model }) {
  const serving = servingOf(instances);
  const client = useQueryClient();
  const more = useMutation({
    mutationFn: () => wake(name, serving + 1),
    onSettled: () => client.invalidateQueries(modelsQuery),
  });
  if (serving >= (effective.maxInstances ?? 1)) return null;
  return (
    <div className="row">
      <button type="button" className="button" disabled={more.isPending} onClick={() => more.mutate()}>
        <Icon name="plus" size={16} /> One more instance
      </button>
      <span className="muted">
        {serving} of {effective.maxInstances}; more are started by themselves when requests wait.
      </span>
      {more.error && (
        <p className="problem" role="alert">
          {messageOf(more.error)}
        </p>
      )}
    </div>
  );
}
