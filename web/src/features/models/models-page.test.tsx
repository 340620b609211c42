// @vitest-environment jsdom
import { modelOf } from "@/testing/models";
import { drawn, type Answer } from "@/testing/page";
import { screen } from "@testing-library/react";
import axe from "axe-core";
import { expect, test } from "vitest";
import ModelsPage from "./models-page";
import { FIRST_MODEL } from "./pulumi-lines";

const serverOf =
  (models: unknown[], run: unknown = null): Answer =>
  ({ url: { pathname } }) =>
    ({ "/api/models": { models }, "/api/cluster": { now: 0, run, models }, "/api/budgets": { budgets: [] } })[pathname];

test("where nothing is configured yet, the page says what to type, and everybody can read it", async () => {
  const { container } = drawn(<ModelsPage />, serverOf([]));
  expect(await screen.findByText("No model is configured yet.")).toBeTruthy();
  expect(container.querySelector("pre")?.textContent).toBe(FIRST_MODEL);
  expect(screen.getByRole("button", { name: "Copy command" })).toBeTruthy();
  const { violations } = await axe.run(container, { rules: { "color-contrast": { enabled: false } } }); // no colours here
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
});

test("nothing costs only where the control plane sleeps too", async () => {
  drawn(<ModelsPage />, serverOf([modelOf()]));
  expect(await screen.findByText("The jar is quiet. Nothing runs; nothing costs.")).toBeTruthy();
  expect(screen.getByText("$0.00/h")).toBeTruthy();
});

test("a control plane that is awake is told, and counted", async () => {
  drawn(<ModelsPage />, serverOf([modelOf()], { started: 0, micro_usd: 0, usd_per_h: 0.0237 }));
  expect(await screen.findByText(/Only the control plane is awake, for \$0\.024\/h/)).toBeTruthy();
  expect(screen.getByText("$0.024/h")).toBeTruthy();
});
