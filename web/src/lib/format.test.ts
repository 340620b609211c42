import { expect, test } from "vitest";
import { about, ago, bytes, clock, count, usd } from "./format";

test.each([
  [0, "$0.00"],
  [0.07, "$0.07"],
  [0.074, "$0.074"],
  [0.0021, "$0.0021"],
  [0.00001234, "$0.000012"],
  [14.2, "$14.20"],
  [1234.5, "$1,234.50"],
  [-2, "−$2.00"],
])("%d dollars are %s", (value, text) => expect(usd(value)).toBe(text));

test.each([
  [7, "5 s"],
  [40, "40 s"],
  [60, "1 min"],
  [88, "1½ min"],
  [250, "4 min"],
  [600, "10 min"],
  [5400, "1.5 h"],
  [7200, "2 h"],
])("%d seconds are about %s", (value, text) => expect(about(value)).toBe(text));

test("a clock shows hours only where there are some", () => {
  expect([clock(9), clock(250), clock(3723)]).toEqual(["0:09", "4:10", "1:02:03"]);
});

test("counts and sizes are short", () => {
  expect([count(812), count(3100), count(999_600), count(1_234_567)]).toEqual(["812", "3.1k", "1M", "1.2M"]);
  expect([bytes(900), bytes(5.4e6), bytes(32.8e9)]).toEqual(["1 kB", "5 MB", "32.8 GB"]);
});

test("times that have just passed are told by their age", () => {
  expect([ago(100, 110), ago(100, 460), ago(100, 7300)]).toEqual(["just now", "6 min ago", "2 h ago"]);
});
