/** Errors on the way to the model: which of them pass, and what is told of those that do not. Pure. */

import { ApiError, isRecord, messageOf } from "@/api/errors";
import type { Fix } from "@/api/models";
import type { Told } from "./conversation";
import { TRIES } from "./outbox";

/** How often the same thing may be tried again after this. Asking for a model twice is once; a question is paid for each
 * time, so it is repeated only where the server says so, or where it never came to the server. */
export function triesOf(error: unknown, what: "wake" | "send"): number {
  if (!(error instanceof ApiError)) return 0;
  if (error.offline || error.unauthenticated || error.status === 429 || error.code === "model_starting")
    return Infinity;
  const gateway = error.status === 502 || error.status === 504; // the edge found nobody behind it
  const asked = error.status === 503 && error.retryAfterS !== null;
  return gateway || asked || (what === "wake" && error.status >= 500) ? TRIES : 0;
}

/** What is kept of an error: in words, with what the server says that helps. */
export function toldOf(error: unknown): Told {
  if (!(error instanceof ApiError)) return { code: "failed", message: messageOf(error) };
  return { code: error.code, message: error.message, ...helpOf(error.details) };
}

/** `fix` and `fixes` where they are what they should be: they come from a server, or out of a file. */
export function helpOf(told: Readonly<Record<string, unknown>>): Pick<Told, "fix" | "fixes"> {
  const fixes = Array.isArray(told["fixes"]) ? told["fixes"].filter(isRecord).map(fixOf) : [];
  return {
    ...(typeof told["fix"] === "string" ? { fix: told["fix"] } : {}),
    ...(fixes.length ? { fixes } : {}),
  };
}

function fixOf({ text, command, url }: Record<string, unknown>): Fix {
  return {
    text: typeof text === "string" ? text : "",
    command: typeof command === "string" ? command : null,
    url: typeof url === "string" && url.startsWith("https://") && URL.canParse(url) ? url : null,
  };
}
