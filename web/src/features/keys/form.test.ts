import { expect, test } from "vitest";
import { newKeyOf, problemsOf, type KeyForm } from "./form";

const FORM: KeyForm = { name: " laptop ", expires: "", models: [], budget: "", perMinute: "" };

test("a key without limits is its name", () => {
  expect(newKeyOf(FORM, 1000)).toEqual({ name: "laptop" });
});

test("limits are numbers, times are from now on", () => {
  const form = { ...FORM, expires: "7", models: ["small"], budget: "2,5", perMinute: "60" };
  expect(newKeyOf(form, 1000.4)).toEqual({
    name: "laptop",
    expires_at: 1000 + 7 * 24 * 3600,
    models: ["small"],
    monthly_budget_usd: 2.5,
    requests_per_minute: 60,
  });
});

test.each([
  [{ budget: "much" }, "budget"],
  [{ budget: "-1" }, "budget"],
  [{ perMinute: "0" }, "perMinute"],
  [{ perMinute: "1.5" }, "perMinute"],
])("%j cannot be", (changed, key) => {
  expect(Object.keys(problemsOf({ ...FORM, ...changed }))).toEqual([key]);
});
