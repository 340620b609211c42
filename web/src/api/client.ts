/** Requests to our own server: the session's cookie, the header that proves them ours, errors as values of one type. */

import { Emitter } from "@/lib/emitter";
import { ApiError, errorOf, OFFLINE } from "./errors";
import type { paths } from "./types.gen";

/** Other sites' pages cannot set a header of their own on a request to us. */
export const OWN_HEADERS = { "X-Diogenes-Csrf": "1" } as const;

let base = "";

/** Where the API is, as `/config.json` says; empty: where this page came from. */
export function setApiBase(url: string): void {
  base = url.replace(/\/$/, "");
}

export const apiUrl = (path: string): string => base + path;

const SESSION = "/api/session" satisfies Path;

/** Some request was refused for want of a session. */
export const sessionEnded = new Emitter<void>();

export interface Call {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

/** An address that the server describes, its parameters filled in. `/v1` answers without FastAPI, and is not described. */
type Filled<T extends string> = T extends `${infer Head}{${string}}${infer Tail}`
  ? `${Head}${string}${Filled<Tail>}`
  : T;
type Described = Filled<keyof paths & string>;
export type Path = Described | `${Described}?${string}` | "/v1/chat/completions";

/** The raw answer, if it is a good one. Throws ApiError, or the signal's reason. */
export async function call(path: Path, { method = "GET", body, signal, headers }: Call = {}): Promise<Response> {
  const response = await fetched(apiUrl(path), {
    method,
    headers: {
      ...OWN_HEADERS,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
    cache: "no-store",
    credentials: "same-origin",
  });
  if (response.ok) return response;
  const error = errorOf(response.status, await jsonOf(response), response.headers.get("Retry-After"));
  if (error.unauthenticated && path !== SESSION) sessionEnded.emit(); // else whoever asks for the session asks again
  throw error;
}

/** The answer's JSON. Throws as `call` does. */
export async function request<T>(path: Path, options?: Call): Promise<T> {
  const response = await call(path, options);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

async function fetched(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("Diogenes cannot be reached. Is this device online?", 0, OFFLINE);
  }
}

async function jsonOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** A model's name as a part of a path; its slashes stay. */
export const pathOf = (name: string): string => name.split("/").map(encodeURIComponent).join("/");
