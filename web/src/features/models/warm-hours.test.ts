import { expect, test } from "vitest";
import { hoursAWeek, inWords, warmWindowOf, windowOf, windowProblem, type Window } from "./warm-hours";

const WORK: Window = { days: "1-5", time: "09:05", cron: "", hours: "8", zone: "Europe/Berlin" };

test.each([
  [{ cron: "5 9 * * 1-5", minutes: 480, zone: "Europe/Berlin" }],
  [{ cron: "0 0 * * *", minutes: 90, zone: "UTC" }],
  [{ cron: "30 22 * * 0,6", minutes: 1440, zone: "Asia/Kolkata" }],
  [{ cron: "*/20 9-17 1 * *", minutes: 5, zone: "UTC" }],
])("%j is the same after it was shown", (told) => {
  expect(warmWindowOf(windowOf(told))).toEqual(told);
});

test("the words of a cron line are read as its numbers", () => {
  expect(windowOf({ cron: "0 9 * * MON-FRI", minutes: 60 })).toMatchObject({ days: "1-5", time: "09:00", zone: "UTC" });
  expect(windowOf({ cron: "0 9 * * 2", minutes: 60 }).days).toBe("cron");
});

test.each([
  [{ hours: "0" }],
  [{ hours: "25" }],
  [{ hours: "long" }],
  [{ time: "" }],
  [{ zone: "Mars" }],
  [{ zone: "" }],
  [{ days: "cron" as const, cron: "0 9 * *" }],
])("%j cannot be", (changed) => {
  expect(windowProblem({ ...WORK, ...changed })).toBeTruthy();
});

test("what can be has no problem, with a comma too", () => {
  expect(windowProblem(WORK)).toBeUndefined();
  expect(windowProblem({ ...WORK, hours: "0,5" })).toBeUndefined();
  expect(warmWindowOf({ ...WORK, hours: "0,5" })).toEqual({ cron: "5 9 * * 1-5", minutes: 30, zone: "Europe/Berlin" });
});

test("they are told as one says them, with what they come to in a week", () => {
  expect(inWords(warmWindowOf(WORK))).toBe("Monday to Friday from 09:05 for 8 hours (Europe/Berlin)");
  expect(inWords({ cron: "1 1 1 * *", minutes: 60 })).toBe("at “1 1 1 * *” for 1 hour (UTC)");
  expect(hoursAWeek([WORK, { ...WORK, days: "0,6", hours: "1,5" }])).toBe(43);
  expect(hoursAWeek([WORK, { ...WORK, days: "cron", cron: "1 1 1 * *" }])).toBeNull();
});
