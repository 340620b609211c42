/** A page as a test sees it: drawn, with a server that gives these answers. */

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, type RenderResult } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, vi } from "vitest";

/** What the server answers to `GET /api/models` and so on; undefined: 404. */
export type Answer = (asked: { method: string; url: URL; body: unknown }) => unknown;

/** Must be called by a file whose environment is jsdom. */
export function drawn(page: ReactNode, answer: Answer): RenderResult {
  vi.stubGlobal("fetch", (path: string, { method = "GET", body }: RequestInit = {}) => {
    const told = answer({
      method,
      url: new URL(path, "http://test"),
      body: typeof body === "string" ? JSON.parse(body) : null,
    });
    return Promise.resolve(told === undefined ? new Response("{}", { status: 404 }) : Response.json(told));
  });
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  return render(<QueryClientProvider client={client}>{page}</QueryClientProvider>);
}

afterEach(() => {
  cleanup();
  localStorage.clear();
  vi.unstubAllGlobals();
});
