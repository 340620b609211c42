import { expect, test } from "vitest";
import { fixesOf, toldOf } from "./failure";

const QUOTA =
  "The account's vCPU quota for on-demand instances is too small for g6e.xlarge (4 vCPU): You have requested more vCPU" +
  " capacity than your current vCPU limit of 0 allows. (tried on-demand in us-east-1a: VcpuLimitExceeded).";
const CAPACITY =
  "AWS has no g5.xlarge to give now (tried on-demand in us-east-1a: InsufficientInstanceCapacity; on-demand in" +
  " us-east-1b: InsufficientInstanceCapacity).";

test("what went wrong stands apart from what AWS said of it", () => {
  expect(toldOf(QUOTA)).toEqual([
    "The account's vCPU quota for on-demand instances is too small for g6e.xlarge (4 vCPU).",
    expect.stringMatching(/^You have requested .* limit of 0 allows\. \(tried .*VcpuLimitExceeded\)\.$/),
  ]);
  expect(toldOf(CAPACITY)).toEqual([
    "AWS has no g5.xlarge to give now.",
    "Tried on-demand in us-east-1a: InsufficientInstanceCapacity; on-demand in us-east-1b: InsufficientInstanceCapacity.",
  ]);
});

test("a short message, and one that is a single sentence, stay whole", () => {
  const one = "The model could not be started because " + "nobody knows why ".repeat(8);
  expect(toldOf("It failed: nobody knows why.")).toEqual(["It failed: nobody knows why.", ""]);
  expect(toldOf(one)).toEqual([one, ""]);
});

test("an address in a sentence is a page to open, whether the server listed the sentence or not", () => {
  const fix = "Request an increase of quota L-1 (G and VT): https://aws.example/quotas/L-1, in the console under EC2.";
  const told = [
    { text: "Request an increase of quota L-1 (G and VT), in the console under EC2.", command: null, url: null },
    { text: "", command: null, url: "https://aws.example/quotas/L-1" },
  ];
  expect(fixesOf({ fix })).toEqual(told);
  expect(fixesOf({ fix: "", fixes: [{ text: fix, command: null, url: null }] })).toEqual(told);
});

test("a command that is whole can be copied; the name of one is only named", () => {
  expect(fixesOf({ fix: "Type `pulumi config set hfToken x` and go on." })).toEqual([
    { text: "Type pulumi config set hfToken x and go on.", command: null, url: null },
    { text: "", command: "pulumi config set hfToken x", url: null },
  ]);
  expect(fixesOf({ fix: "Allow spot with `pulumi config set`." })).toEqual([
    { text: "Allow spot with pulumi config set.", command: null, url: null },
  ]);
  expect(fixesOf({ fix: "" })).toEqual([]);
});

test("what the server spelled out stays as it is", () => {
  const fixes = [{ text: "Set it, and `deploy`.", command: "pulumi up", url: null }];
  expect(fixesOf({ fix: "Other words.", fixes })).toEqual(fixes);
});
