/** Who is signed in. The cookie is the server's; the page knows only what it may show. */

import { call, request } from "./client";
import { isRecord } from "./errors";
import type { components } from "./types.gen";

type Schemas = components["schemas"];

export type Session = Schemas["SessionEntry"];
export type SignedIn = Schemas["SignedIn"];
export type AllowlistEntry = Schemas["AllowlistEntry"];

export const getSession = (signal?: AbortSignal): Promise<Session> => request("/api/session", { signal });

/** Where to send the browser to sign in. */
export async function startSession(provider: string, returnTo: string): Promise<string> {
  const body: Schemas["Start"] = { provider, return_to: returnTo };
  const started = await request<Schemas["Begun"]>("/api/session/start", { method: "POST", body });
  return started.authorize_url;
}

/** What a provider sent the browser back with. */
export type Returned = { state: string; id_token: string } | { state: string; code: string };

export const createSession = (returned: Returned): Promise<SignedIn> =>
  request("/api/session", { method: "POST", body: returned });

export async function endSession({ everywhere = false } = {}): Promise<void> {
  await call(`/api/session${everywhere ? "?everywhere=true" : ""}`, { method: "DELETE" });
}

/** From the fragment (implicit flow) or the query (code flow). A string is the provider's refusal. */
export function parseReturned(hash: string, query: string): Returned | string {
  const fields = new URLSearchParams(hash.replace(/^#/, "") || query.replace(/^\?/, ""));
  const [state, token, code] = [fields.get("state"), fields.get("id_token"), fields.get("code")];
  const refusal = fields.get("error_description") ?? fields.get("error");
  if (refusal) return refusal;
  if (state && token) return { state, id_token: token };
  if (state && code) return { state, code };
  return "The provider sent nothing to sign in with.";
}

/** Only a path of ours: an address of somebody else's would make us a signpost to it. */
export function safeReturn(path: string | null | undefined): string {
  return path && /^\/(?![/\\])/.test(path) && !path.startsWith("/signin") ? path : "/chat";
}

export async function getAllowlist(signal?: AbortSignal): Promise<AllowlistEntry[]> {
  const told = await request<Schemas["Allowlist"]>("/api/allowlist", { signal });
  return told.entries;
}

const entry = (email: string) => `/api/allowlist/${encodeURIComponent(email)}` as const;

export async function allow(email: string): Promise<void> {
  await call(entry(email), { method: "PUT" });
}

export async function disallow(email: string): Promise<void> {
  await call(entry(email), { method: "DELETE" });
}

const KEPT = "diogenes.session";

/** Who was signed in when this page was last open: it shows at once, while the server is asked. */
export function rememberedSession(storage: Storage = localStorage): Session | undefined {
  try {
    const told: unknown = JSON.parse(storage.getItem(KEPT) ?? "null");
    return isRecord(told) && typeof told["email"] === "string" ? (told as unknown as Session) : undefined;
  } catch {
    return undefined;
  }
}

export function rememberSession(session: Session | undefined, storage: Storage = localStorage): void {
  if (session) storage.setItem(KEPT, JSON.stringify(session));
  else storage.removeItem(KEPT);
}
