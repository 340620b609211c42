/** A conversation as a tree: every edit and every new answer is a branch, and none is lost. Pure. */

import type { ChatMessage, Part, TokenUsage } from "@/api/chat";
import type { Failure } from "@/api/models";

export interface Params {
  temperature?: number;
  topP?: number;
  maxTokens?: number;
}

export interface Conversation {
  id: string;
  title: string;
  titled: boolean; // by hand: the first question no longer names it
  model: string;
  system: string;
  params: Params;
  chosen: Record<string, string>; // which child of a message is shown; the newest where none is named
  createdAt: number;
  updatedAt: number;
}

export type Status =
  | "waiting" // in the outbox: the model sleeps, or starts
  | "streaming"
  | "done"
  | "stopped" // by hand, or by the end of the page: what came is kept
  | "failed";

/** Why there is no answer, and what helps. */
export type Told = Pick<Failure, "code" | "message" | "fixes"> & Partial<Pick<Failure, "fix">>;

export interface Message {
  id: string;
  conversationId: string;
  parentId: string | null;
  role: "user" | "assistant";
  text: string;
  reasoning: string;
  images: string[]; // data URLs
  status: Status;
  createdAt: number;
  model?: string; // that answered
  finish?: string;
  error?: Told;
  usage?: TokenUsage;
  firstTokenS?: number; // from the request to the first piece
  tokensPerS?: number;
  reasoningS?: number;
  usd?: number; // by the hour's price: an estimate
}

export const ROOT = "root";

/** The messages that are shown, first to last. */
export function pathOf(messages: readonly Message[], chosen: Conversation["chosen"]): Message[] {
  const children = byParent(messages);
  const path: Message[] = [];
  const seen = new Set<string>();
  let at = ROOT;
  for (;;) {
    const next = choice(children.get(at) ?? [], chosen[at]);
    if (!next || seen.has(next.id)) return path; // an imported file may hold a ring
    seen.add(next.id);
    path.push(next);
    at = next.id;
  }
}

/** All that stand where this message stands, itself among them, oldest first. */
export function siblingsOf(messages: readonly Message[], message: Message): Message[] {
  return byParent(messages).get(message.parentId ?? ROOT) ?? [];
}

/** Show this message where it has siblings. */
export function choose(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, chosen: { ...conversation.chosen, [message.parentId ?? ROOT]: message.id } };
}

/** What the model is asked for the answer below `parentId`: the system prompt, then the way down to there. A question that
 * nothing was said to is left out: templates of many models demand that the two take turns. */
export function promptFor(
  conversation: Conversation,
  messages: readonly Message[],
  parentId: string | null,
): ChatMessage[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const way: ChatMessage[] = [];
  let answered = true;
  for (let at = byId.get(parentId ?? ""); at && way.length <= messages.length; at = byId.get(at.parentId ?? "")) {
    if (at.role === "assistant") answered = Boolean(at.text);
    if (answered) way.push({ role: at.role, content: contentOf(at) });
  }
  if (conversation.system.trim()) way.push({ role: "system", content: conversation.system });
  return way.toReversed();
}

function contentOf({ text, images }: Message): string | Part[] {
  if (!images.length) return text;
  const pictures = images.map((url): Part => ({ type: "image_url", image_url: { url } }));
  return text ? [...pictures, { type: "text", text }] : pictures;
}

/** The first words of a question. */
export function titleOf(question: string): string {
  const line = question.replace(/\s+/g, " ").trim();
  if (line.length <= 60) return line || "New chat";
  return `${line.slice(0, 60).replace(/\s+\S*$/, "")}…`;
}

function byParent(messages: readonly Message[]): Map<string, Message[]> {
  const children = new Map<string, Message[]>();
  for (const message of messages) {
    const parent = message.parentId ?? ROOT;
    const among = children.get(parent);
    if (among) among.push(message);
    else children.set(parent, [message]);
  }
  for (const among of children.values()) among.sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
  return children;
}

function choice(among: readonly Message[], named: string | undefined): Message | undefined {
  return among.find((message) => message.id === named) ?? among.at(-1);
}
