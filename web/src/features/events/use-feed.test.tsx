// @vitest-environment jsdom
import { setApiBase } from "@/api/client";
import { modelsQuery, newQueryClient, sessionQuery } from "@/api/queries";
import type { Session } from "@/api/session";
import { act, renderHook } from "@testing-library/react";
import { QueryClientProvider } from "@tanstack/react-query";
import { http, HttpResponse } from "msw";
import { setupServer } from "msw/node";
import type { ReactNode } from "react";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { useFeed } from "./use-feed";

const server = setupServer();
beforeAll(() => {
  setApiBase("http://diogenes.test");
  server.listen({ onUnhandledRequest: "error" });
});
afterEach(() => server.resetHandlers());
afterAll(() => server.close());

const SESSION = { email: "a@example.com", owner: true } as Session;
const event = (id: string) => ({
  id: id,
  at: 1,
  kind: "node-launched",
  cause: "me",
  model: null,
  node: null,
  message: id,
  data: {},
});
const at = "http://diogenes.test/api/events";
const asleep = http.get(`${at}/stream`, () =>
  HttpResponse.json({ error: { code: "asleep_no_stream", message: "asleep" } }, { status: 503 }),
);

function follow() {
  const client = newQueryClient();
  client.setQueryDefaults(sessionQuery.queryKey, { queryFn: () => SESSION });
  client.setQueryData(sessionQuery.queryKey, SESSION);
  client.setQueryData(modelsQuery.queryKey, []);
  const wrapper = ({ children }: { children: ReactNode }) => (
    <QueryClientProvider client={client}>{children}</QueryClientProvider>
  );
  return { client, ...renderHook(useFeed, { wrapper }) };
}

test("a feed that the end of the session ended goes on once one is signed in again, its error gone", async () => {
  let signedIn = false;
  server.use(
    asleep,
    http.get("http://diogenes.test/api/session", () => HttpResponse.json({}, { status: 401 })),
    http.get(at, () =>
      signedIn
        ? HttpResponse.json({ events: [event("e1")], next: null })
        : HttpResponse.json({ error: { code: "invalid_session", message: "Sign in." } }, { status: 401 }),
    ),
  );
  const { client, result, unmount } = follow();
  await expect.poll(() => result.current.problem?.message).toBe("Sign in.");
  signedIn = true;
  act(() => void client.setQueryData(sessionQuery.queryKey, { ...SESSION }, { updatedAt: Date.now() + 1000 }));
  await expect.poll(() => result.current.feed.events.length).toBe(1);
  expect(result.current.problem).toBeUndefined();
  unmount();
});

test("earlier ones that could not be had are asked for again, and the error goes", async () => {
  let broken = true;
  server.use(
    asleep,
    http.get(at, ({ request }) => {
      if (!new URL(request.url).searchParams.has("before"))
        return HttpResponse.json({ events: [event("e2")], next: "e2" });
      if (broken) return HttpResponse.json({ error: { code: "x", message: "It broke." } }, { status: 500 });
      return HttpResponse.json({ events: [event("e1")], next: null });
    }),
  );
  const { result, unmount } = follow();
  await expect.poll(() => result.current.feed.way).toBe("polling");
  act(() => result.current.more());
  await expect.poll(() => result.current.problem?.message).toBe("It broke.");
  broken = false;
  act(() => result.current.more());
  await expect.poll(() => result.current.feed.events.length).toBe(2);
  expect(result.current.problem).toBeUndefined();
  unmount();
});
