/** What the server says of the form: whether it fits its machines, what they cost, what AWS must allow for them. */

import { messageOf } from "@/api/errors";
import { checkModel, type Assessment, type Machine } from "@/api/models";
import { clock, count, usd } from "@/lib/format";
import { useQuery } from "@tanstack/react-query";
import { draftOf, type Form, type Problems } from "./form";
import { useSettled } from "./use-settled";

const SETTLED_MS = 400;

interface Props {
  name: string;
  form: Form;
  problems: Problems;
  onTake: (instanceType: string) => void;
}

export function Check({ name, form, problems, onTake }: Props) {
  const sound = !Object.keys(problems).length;
  const draft = useSettled(draftOf(form), SETTLED_MS);
  const { data, error, isPlaceholderData } = useQuery({
    queryKey: ["check", name, draft],
    queryFn: ({ signal }) => checkModel(name, draft, signal),
    enabled: sound,
    placeholderData: (before) => before,
    staleTime: 60_000,
    retry: false,
  });
  return (
    <section className="card" aria-busy={isPlaceholderData}>
      <h2>Check</h2>
      {!sound ? (
        <p className="problem">Something in the form cannot be.</p>
      ) : error ? (
        <p className="problem" role="alert">
          It could not be checked: {messageOf(error)}
        </p>
      ) : data ? (
        <Told told={data} onTake={onTake} />
      ) : (
        <p className="muted">Checking…</p>
      )}
    </section>
  );
}

function Told({ told, onTake }: { told: Assessment; onTake: Props["onTake"] }) {
  const { machines, problems, cheapest, start_usd: start } = told;
  const fits = machines.every(({ answer }) => answer === "yes");
  return (
    <>
      {problems.length > 0 && (
        <ul className="checks">
          {problems.map(({ key, message }) => (
            <li key={key} data-ok="false">
              {message}
            </li>
          ))}
        </ul>
      )}
      <p className="visually-hidden" role="status">
        {machines.map(({ instance_type: type, answer }) => `${type}: ${VERDICTS[answer]}`).join(", ")}
      </p>
      {machines.map((machine) => (
        <MachineView key={machine.instance_type} machine={machine} />
      ))}
      {cheapest && !fits && !machines.some(({ instance_type: type }) => type === cheapest.instance_type) && (
        <div className="row">
          <p>
            The cheapest that surely fits is {cheapest.instance_type}, {usd(cheapest.usd_per_h)}/h
            {cheapest.tensor_parallel > 1 && `, with --tensor-parallel-size ${cheapest.tensor_parallel}`}.
          </p>
          <button type="button" className="button" onClick={() => onTake(cheapest.instance_type)}>
            Take it first
          </button>
        </div>
      )}
      {start !== null && (
        <p className="muted">
          A start that is asked one short question and idles out costs about {usd(start)}. List prices of{" "}
          {told.prices_of}, On-Demand, with volume and address
          {told.market === "on-demand" ? "." : "; Spot costs less, by changing amounts."}
        </p>
      )}
    </>
  );
}

const VERDICTS: Record<Machine["answer"], string> = {
  yes: "fits",
  maybe: "may fit",
  no: "does not fit",
  unknown: "not known whether it fits",
};

const OK: Record<Machine["answer"], string | undefined> = {
  yes: "true",
  maybe: undefined,
  no: "false",
  unknown: undefined,
};

function MachineView({ machine }: { machine: Machine }) {
  const { instance_type: type, gpu, gpus, usd_per_h: hourly, usual_start_s: usual, kv_cache_tokens: room } = machine;
  const facts = [
    gpu ? `${gpus} × ${gpu}` : "",
    hourly === null ? "" : `${usd(hourly)}/h`,
    usual === null ? "" : `usually ready in ${clock(usual)}`,
  ].filter(Boolean);
  return (
    <div className="machine">
      <h3>
        {type} <span className="muted numbers">{facts.join(" · ")}</span>
      </h3>
      <ul className="checks">
        <li data-ok={OK[machine.answer]}>
          <strong>{sentence(VERDICTS[machine.answer])}.</strong> {machine.reason && `${sentence(machine.reason)}.`}
        </li>
        {room !== null && machine.answer !== "no" && (
          <li data-ok="true">
            Its KV cache has room for {count(room)} tokens{requestsInWords(room, machine.context_tokens)}.
          </li>
        )}
        {machine.quotas.map((quota) => (
          <li key={quota.market} data-ok="note">
            AWS must allow {quota.vcpus} vCPUs of{" "}
            <a href={quota.url} target="_blank" rel="noreferrer noopener">
              {quota.name ?? `such machines, ${quota.market}`}
            </a>
            {quota.code && ` (${quota.code})`}; <code>diogenes doctor</code> tells how many it does.
          </li>
        ))}
      </ul>
    </div>
  );
}

function requestsInWords(room: number, longest: number | null): string {
  if (!longest) return "";
  const many = room / longest;
  return `: ${many < 10 ? many.toFixed(1) : Math.floor(many)} requests of ${count(longest)} at once`;
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
