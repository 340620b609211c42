/** What the same tokens would have cost at closed APIs, by a dated list of prices. */

import { getBreakEven, type BreakEven as Told, type UsageQuery } from "@/api/usage";
import { count, microUsd, usd } from "@/lib/format";
import { useQuery } from "@tanstack/react-query";

export function BreakEven({ days }: { days: Omit<UsageQuery, "by"> }) {
  const { data } = useQuery({
    queryKey: ["break-even", days],
    queryFn: ({ signal }) => getBreakEven(days, signal),
    staleTime: 60_000,
    placeholderData: (before) => before,
    retry: false,
  });
  if (!data?.tokens) return null;
  return (
    <section className="card" aria-label="Beside closed APIs">
      <h2>Beside closed APIs</h2>
      <p>{inWords(data)}</p>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it */}
      <div className="figures-table" tabIndex={0} role="region" aria-label="Prices of closed APIs">
        <table className="numbers">
          <thead>
            <tr>
              <th scope="col">Closed API</th>
              <th scope="col">Same tokens there</th>
              <th scope="col">A million</th>
              <th scope="col">Even from</th>
              <th scope="col">Cheaper</th>
            </tr>
          </thead>
          <tbody>
            {data.closed.map((each) => (
              <tr key={each.name}>
                <th scope="row">
                  {each.name} <span className="muted">{each.provider}</span>
                </th>
                <td data-label="Same tokens there">{microUsd(each.micro_usd)}</td>
                <td data-label="A million">{perMillion(each.usd_per_million_tokens)}</td>
                <td data-label="Even from">
                  {each.break_even_tokens_per_gpu_hour === null
                    ? "–"
                    : `${count(each.break_even_tokens_per_gpu_hour)} tokens/GPU h`}
                </td>
                <td data-label="Cheaper">{each.cheaper_here === null ? "–" : each.cheaper_here ? "here" : "there"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p className="muted">
        At your mix of prompt, cached and answer tokens. {data.prices.source}, {data.prices.date}.
      </p>
    </section>
  );
}

const perMillion = (value: number | null): string => (value === null ? "–" : usd(value));

/** `1.2M tokens cost $3.40 here: $2.83 a million, at 410k tokens an hour on a GPU.` */
export function inWords({ tokens, micro_usd: spent, usd_per_million_tokens: million, ...told }: Told): string {
  const pace =
    told.tokens_per_gpu_hour === null ? "" : `, at ${count(told.tokens_per_gpu_hour)} tokens an hour on a GPU`;
  return `${count(tokens)} tokens cost ${microUsd(spent)} here: ${perMillion(million)} a million${pace}.`;
}
