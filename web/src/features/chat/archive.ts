/** Chats as files: everything as JSON, there and back; one as Markdown, to read. Pure. */

import { isRecord } from "@/api/errors";
import { pathOf, type Conversation, type Message, type Params } from "./conversation";
import { helpOf } from "./trouble";

const FORMAT = "diogenes-chats-1";

export interface Archive {
  conversations: Conversation[];
  messages: Message[];
}

export function toJson({ conversations, messages }: Archive): string {
  return JSON.stringify({ format: FORMAT, conversations, messages }, null, 1);
}

/** Raises with what is wrong in words. */
export function fromJson(text: string): Archive {
  const told = parsed(text);
  if (!isRecord(told) || told["format"] !== FORMAT) throw new Error("This is no file of chats that Diogenes exported.");
  const conversations = listOf(told["conversations"]).map(conversation);
  const ids = new Set(conversations.map(({ id }) => id));
  const messages = listOf(told["messages"]).map(message);
  return { conversations, messages: messages.filter(({ conversationId }) => ids.has(conversationId)) };
}

export function toMarkdown(conversation: Conversation, messages: readonly Message[]): string {
  const parts = pathOf(messages, conversation.chosen).map(({ role, text, images, model }) => {
    const who = role === "user" ? "You" : (model ?? conversation.model);
    const pictures = images.length ? `\n\n*(${images.length} image${images.length > 1 ? "s" : ""})*` : "";
    return `## ${who}\n\n${text}${pictures}`;
  });
  const system = conversation.system ? [`> ${conversation.system.replaceAll("\n", "\n> ")}`] : [];
  return `${[`# ${conversation.title}`, ...system, ...parts].join("\n\n")}\n`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
}

const listOf = (value: unknown): Record<string, unknown>[] => (Array.isArray(value) ? value.filter(isRecord) : []);
const string = (value: unknown, otherwise = ""): string => (typeof value === "string" ? value : otherwise);
const number = (value: unknown, otherwise = 0): number => (typeof value === "number" ? value : otherwise);

function conversation(told: Record<string, unknown>): Conversation {
  if (!string(told["id"])) throw new Error("A chat in this file has no id.");
  return {
    id: string(told["id"]),
    title: string(told["title"], "Imported chat"),
    titled: told["titled"] === true,
    model: string(told["model"]),
    system: string(told["system"]),
    params: params(told["params"]),
    chosen: isRecord(told["chosen"]) ? Object.fromEntries(Object.entries(told["chosen"]).filter(isNamed)) : {},
    createdAt: number(told["createdAt"]),
    updatedAt: number(told["updatedAt"]),
  };
}

function message(told: Record<string, unknown>): Message {
  if (!string(told["id"])) throw new Error("A message in this file has no id.");
  const images = Array.isArray(told["images"]) ? told["images"] : [];
  const settled = told["status"] === "failed" || told["status"] === "stopped" ? told["status"] : "done";
  return {
    id: string(told["id"]),
    conversationId: string(told["conversationId"]),
    role: told["role"] === "user" ? "user" : "assistant",
    parentId: string(told["parentId"]) || null,
    text: string(told["text"]),
    reasoning: string(told["reasoning"]),
    images: images.filter((image): image is string => typeof image === "string" && image.startsWith("data:image/")),
    status: settled, // what was under way elsewhere is not under way here
    createdAt: number(told["createdAt"]),
    ...only(told, ["model", "finish"], isText),
    ...only(told, ["firstTokenS", "tokensPerS", "reasoningS", "usd"], isFigure),
    ...usage(told["usage"]),
    ...error(told["error"]),
  };
}

const isText = (value: unknown): value is string => typeof value === "string";
const isFigure = (value: unknown): value is number => Number.isFinite(value);
const isNamed = (entry: [string, unknown]): entry is [string, string] => isText(entry[1]);

/** Of these members those that are what they should be; a page that shows another would break. */
function only<Key extends string, T>(
  told: Record<string, unknown>,
  keys: readonly Key[],
  is: (value: unknown) => value is T,
): { [K in Key]?: T } {
  const found: { [K in Key]?: T } = {};
  for (const key of keys) {
    const value = told[key];
    if (is(value)) found[key] = value;
  }
  return found;
}

const params = (told: unknown): Params =>
  isRecord(told) ? only(told, ["temperature", "topP", "maxTokens"], isFigure) : {};

function usage(told: unknown): Pick<Message, "usage"> {
  if (!isRecord(told)) return {};
  const { prompt_tokens, completion_tokens } = only(told, ["prompt_tokens", "completion_tokens"], isFigure);
  return prompt_tokens === undefined || completion_tokens === undefined
    ? {}
    : { usage: { prompt_tokens, completion_tokens } };
}

function error(told: unknown): Pick<Message, "error"> {
  if (!isRecord(told)) return {};
  return { error: { code: string(told["code"], "failed"), message: string(told["message"]), ...helpOf(told) } };
}
