// @vitest-environment jsdom
import type { UsageRow } from "@/api/usage";
import { dayOf } from "@/lib/days";
import { drawn, type Answer } from "@/testing/page";
import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import UsagePage from "./usage-page";
import { sumOf } from "./table";

const TODAY = dayOf(Date.now());
const USED = [
  { model: "first", key: "", owner: "ann@example.com", micro_usd: 2_000_000 },
  { model: "removed", key: "k1", owner: "bob@example.com", micro_usd: 300_000 },
  { model: "(control plane)", key: "", owner: "deployment", micro_usd: 40_000 },
];

function row(labels: Partial<UsageRow>): UsageRow {
  const tokens = { prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, reasoning_tokens: 0 };
  return { micro_usd: 0, requests: 1, gpu_seconds: 0, busy_seconds: 0, ...tokens, ...labels };
}

/** As the server sums it up; of its models only `first` is still configured. */
const answer: Answer = ({ url: { pathname, searchParams } }) => {
  const asked = (name: string) => searchParams.get(name);
  if (pathname === "/api/models") return { models: [] };
  if (pathname === "/api/budgets") return { budgets: [] };
  if (pathname === "/api/keys") return { keys: [{ key_id: "k1", name: "laptop" }] };
  if (pathname !== "/api/usage") return undefined;
  const [by, model, owner] = [asked("by") ?? "", asked("model"), asked("owner")];
  const used = USED.filter((each) => (!model || each.model === model) && (!owner || each.owner === owner));
  const named = (each: (typeof USED)[number]): Partial<UsageRow> =>
    by === "key" ? { key: each.key, owner: each.owner } : by === "day" ? { day: TODAY } : { [by]: each[by as "model"] };
  const rows = used.map((each) => row({ ...named(each), micro_usd: each.micro_usd }));
  const told = by === "day" && rows.length ? [{ ...sumOf(rows), day: TODAY }] : rows;
  return { by, rows: told, total: sumOf(rows), budget: null };
};

const chart = () => screen.findByRole("img", { name: /^Cost per day/ });
const totalOf = (table: HTMLElement) => within(table).getByRole("row", { name: /^Total/ }).textContent;

test("the chart holds what the table's total does: models that are gone, and the control plane", async () => {
  drawn(<UsagePage owner />, answer);
  expect((await chart()).getAttribute("aria-label")).toContain("$2.34");
  expect(totalOf(screen.getByRole("region", { name: "Figures" }))).toContain("$2.34");
  for (const name of ["removed", "(control plane)"]) expect(screen.getByText(name)).toBeTruthy();
});

test("whoever spent something in these days can be chosen, and the chart is theirs", async () => {
  drawn(<UsagePage owner />, answer);
  await chart();
  await userEvent.selectOptions(await screen.findByLabelText("Person"), "bob@example.com");
  expect(await screen.findByRole("img", { name: /\$0\.30/ })).toBeTruthy();
  expect(
    within(screen.getByLabelText("Person"))
      .getAllByRole("option")
      .map(({ textContent }) => textContent),
  ).toEqual(["everybody", "ann@example.com", "bob@example.com", "deployment"]);
});

test("by key, a browser and what nobody asked for are named", async () => {
  drawn(<UsagePage owner />, answer);
  await chart();
  await userEvent.selectOptions(screen.getByLabelText("Table by"), "Key");
  expect(await screen.findByText("laptop")).toBeTruthy();
  for (const name of ["in the browser: ann@example.com", "nobody: warm hours, idle time"]) {
    expect(screen.getByText(name)).toBeTruthy();
  }
});
