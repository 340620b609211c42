import { setApiBase } from "@/api/client";
import type { EventEntry } from "@/api/events";
import { http, HttpResponse } from "msw";
import { setupServer } from "msw/node";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { changed, EMPTY, kindInWords, newestId, runsOf, type Change, type Feed } from "./feed";
import { follow } from "./follow";

const event = (n: number, changes: Partial<EventEntry> = {}): EventEntry => {
  const told = { kind: "node-launched", cause: "me", model: "small", node: null, message: `event ${n}`, data: {} };
  return { id: `e${n}`, at: n, ...told, ...changes };
};
const after = (...changes: Change[]): Feed => changes.reduce(changed, EMPTY);
const ids = (feed: Feed) => feed.events.map(({ id }) => id);

test.each([
  ["wish-refused", "start given up"],
  ["node-launched", "machine launched"],
  ["budget_reached", "budget reached"],
])("%s is called %s", (kind, words) => {
  expect(kindInWords(kind)).toBe(words);
});

test("whether they come live or on a page, the list is the same", () => {
  const page: Change = { kind: "page", events: [event(3), event(2)], next: "c" };
  const live = after(page, { kind: "arrived", events: [event(4)] }, { kind: "arrived", events: [event(5)] });
  const asked = after(page, { kind: "arrived", events: [event(4), event(5)] });
  expect(ids(live)).toEqual(["e5", "e4", "e3", "e2"]);
  expect(asked).toEqual(live);
});

test("none is there twice, and earlier ones go to the end", () => {
  const feed = after(
    { kind: "page", events: [event(3), event(2)], next: "c" },
    { kind: "arrived", events: [event(3), event(4)] },
    { kind: "page", events: [event(2), event(1)], next: null },
  );
  expect(ids(feed)).toEqual(["e4", "e3", "e2", "e1"]);
  expect([newestId(feed), feed.older]).toEqual(["e4", null]);
});

test("what happened to one node stands together", () => {
  const runs = runsOf([event(4), event(3, { node: "i-1" }), event(2, { node: "i-2" }), event(1, { node: "i-1" })]);
  expect(runs.map(({ events }) => events.map(({ id }) => id))).toEqual([["e4"], ["e3", "e1"], ["e2"]]);
});

const server = setupServer();
beforeAll(() => {
  setApiBase("http://diogenes.test");
  server.listen({ onUnhandledRequest: "error" });
});
afterEach(() => server.resetHandlers());
afterAll(() => server.close());

/** Follows until the list is as wanted. */
async function followed(wanted: (feed: Feed) => boolean): Promise<Feed> {
  let feed = EMPTY;
  const stop = new AbortController();
  const dispatch = (change: Change) => {
    feed = changed(feed, change);
    if (wanted(feed)) stop.abort(new Error("enough"));
  };
  await follow({ newest: () => newestId(feed), dispatch, signal: stop.signal, hidden: () => false });
  return feed;
}

test("awake, events are streamed from the newest known on", async () => {
  let from = "";
  server.use(
    http.get("http://diogenes.test/api/events", () => HttpResponse.json({ events: [event(2), event(1)], next: null })),
    http.get("http://diogenes.test/api/events/stream", ({ request }) => {
      from = request.headers.get("Last-Event-ID") ?? "";
      const line = (n: number) => `id: e${n}\nevent: node-launched\ndata: ${JSON.stringify(event(n))}\n\n`;
      return new HttpResponse(`id: e2\nretry: 3000\n\n: ping\n\n${line(3)}${line(4)}`);
    }),
  );
  const feed = await followed(({ events }) => events.length === 4);
  expect([from, feed.way, ids(feed)]).toEqual(["e2", "live", ["e4", "e3", "e2", "e1"]]);
});

test("asleep, they are asked for", async () => {
  const asked: (string | null)[] = [];
  const refusal = { error: { code: "asleep_no_stream", message: "asleep" } };
  server.use(
    http.get("http://diogenes.test/api/events", ({ request }) => {
      const after = new URL(request.url).searchParams.get("after");
      asked.push(after);
      return HttpResponse.json({ events: after ? [event(2)] : [event(1)], next: after ? "e2" : null });
    }),
    http.get("http://diogenes.test/api/events/stream", () => HttpResponse.json(refusal, { status: 503 })),
  );
  const feed = await followed(({ way }) => way === "polling");
  expect([asked, ids(feed)]).toEqual([
    [null, "e1"],
    ["e2", "e1"],
  ]);
});

test("who may not see them is told so, once", async () => {
  const refusal = { error: { code: "invalid_session", message: "Sign in." } };
  server.use(http.get("http://diogenes.test/api/events", () => HttpResponse.json(refusal, { status: 401 })));
  await expect(followed(() => false)).rejects.toMatchObject({ status: 401 });
});
