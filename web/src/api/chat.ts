/** One answer, as it comes. */

import { call } from "./client";
import { ApiError, errorOf, isRecord } from "./errors";
import { sseMessages } from "./sse";

export type Part = { type: "text"; text: string } | { type: "image_url"; image_url: { url: string } };

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string | Part[];
}

export interface Sampling {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
}

export interface ChatRequest extends Sampling {
  model: string;
  messages: ChatMessage[];
}

export interface TokenUsage {
  prompt_tokens: number;
  completion_tokens: number;
}

export type Delta =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  | { kind: "finish"; reason: string }
  | { kind: "usage"; usage: TokenUsage };

// The model is ready when this is asked; this long it may turn out not to be.
const WAIT_S = "20";

/** The answer's pieces. Throws ApiError, also for what breaks off in the middle, or the signal's reason. */
export async function* chat(body: ChatRequest, signal: AbortSignal): AsyncGenerator<Delta> {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    headers: { "X-Diogenes-Wait": WAIT_S },
    signal,
  });
  let ended = false;
  try {
    for await (const { data } of sseMessages(response, signal)) {
      if (data === "[DONE]") ended = true;
      else yield* deltasOf(data);
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke in the middle of the answer.", 0, "connection_lost");
  }
  if (!ended) throw new ApiError("The answer ended before it was complete.", 0, "connection_lost");
}

/** What one event tells. Throws ApiError where it is an error. */
export function deltasOf(data: string): Delta[] {
  const chunk: unknown = JSON.parse(data);
  if (!isRecord(chunk)) return [];
  if (chunk["error"]) throw errorOf(500, chunk);
  const deltas: Delta[] = [];
  const choices: unknown[] = Array.isArray(chunk["choices"]) ? chunk["choices"] : [];
  for (const choice of choices) if (isRecord(choice)) deltas.push(...ofChoice(choice));
  if (isRecord(chunk["usage"])) deltas.push({ kind: "usage", usage: usageOf(chunk["usage"]) });
  return deltas;
}

function ofChoice(choice: Record<string, unknown>): Delta[] {
  const delta = isRecord(choice["delta"]) ? choice["delta"] : {};
  const deltas: Delta[] = [];
  // vLLM says `reasoning`; older ones, and others, `reasoning_content`.
  const thought = delta["reasoning"] ?? delta["reasoning_content"];
  if (typeof thought === "string" && thought) deltas.push({ kind: "reasoning", text: thought });
  if (typeof delta["content"] === "string" && delta["content"]) deltas.push({ kind: "text", text: delta["content"] });
  if (typeof choice["finish_reason"] === "string") deltas.push({ kind: "finish", reason: choice["finish_reason"] });
  return deltas;
}

function usageOf(usage: Record<string, unknown>): TokenUsage {
  return {
    prompt_tokens: Number(usage["prompt_tokens"] ?? 0),
    completion_tokens: Number(usage["completion_tokens"] ?? 0),
  };
}
