// @vitest-environment jsdom
import type { Model, Override } from "@/api/models";
import { modelOf } from "@/testing/models";
import { drawn, type Answer } from "@/testing/page";
import { fireEvent, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import EditPage from "./edit-page";

const CONFIG = { name: "small", instanceTypes: ["g5.xlarge"], idleTimeout: 600 };
const changedBy = (override: Override): Model =>
  modelOf({ config: CONFIG, override, effective: { ...CONFIG, ...override } });

/** A server with one model, which somebody may have changed before our change reaches it. */
function server(meanwhile: Override): { answer: Answer; patches: unknown[] } {
  let model = changedBy({});
  const patches: unknown[] = [];
  const answer: Answer = ({ method, url: { pathname }, body }) => {
    if (method === "PATCH") {
      patches.push(body);
      const told = Object.entries({ ...model.override, ...meanwhile, ...(body as Override) });
      model = changedBy(Object.fromEntries(told.filter(([, value]) => value !== null)));
      return { ...model, failure_log: [] };
    }
    return pathname === "/api/models" ? { models: [model] } : undefined;
  };
  return { answer, patches };
}

const field = (name: string | RegExp) => screen.getByLabelText<HTMLInputElement>(name);

const fill = (name: string, value: string) => fireEvent.change(field(name), { target: { value } });

test("saving keeps what is meant for Pulumi, and neither hides nor takes back what another changed", async () => {
  const { answer, patches } = server({ vllmArgs: "--enforce-eager", maxInstances: 3 });
  drawn(<EditPage name="small" />, answer);
  await screen.findByLabelText("Idle timeout, minutes");
  fill("Instance types", "g6e.xlarge");
  fill("Idle timeout, minutes", "20");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await screen.findByText("Saved. It holds from now on.");
  expect(field("vLLM arguments").value).toBe("--enforce-eager");
  expect([field("Idle timeout, minutes").value, field("Instance types").value]).toEqual(["20", "g6e.xlarge"]);

  fill("Idle timeout, minutes", "30");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(patches).toEqual([{ idleTimeout: 1200 }, { idleTimeout: 1800 }]));
});

test("one setting back to Pulumi's leaves the others as they were typed", async () => {
  const { answer, patches } = server({});
  drawn(<EditPage name="small" />, answer);
  await screen.findByLabelText("Idle timeout, minutes");
  fill("Idle timeout, minutes", "20");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  fill("Instance types", "g6e.xlarge");
  fill("Most instances", "2");
  await userEvent.click(await screen.findByRole("button", { name: /^Back to Pulumi’s/ }));
  await waitFor(() => expect(field("Idle timeout, minutes").value).toBe("10"));
  expect([field("Instance types").value, field("Most instances").value]).toEqual(["g6e.xlarge", "2"]);
  expect(patches).toEqual([{ idleTimeout: 1200 }, { idleTimeout: null }]);
});

test("warm hours are priced for one machine, however many run", async () => {
  const hours = [{ cron: "0 9 * * *", minutes: 60, zone: "UTC" }];
  const model = { ...changedBy({ warmHours: hours }), usd_per_h: 1, run: { started: 0, micro_usd: 0, usd_per_h: 4 } };
  drawn(<EditPage name="small" />, ({ url }) => (url.pathname === "/api/models" ? { models: [model] } : undefined));
  expect(await screen.findByText(/7 h a week: about \$7\.00/)).toBeTruthy();
});
