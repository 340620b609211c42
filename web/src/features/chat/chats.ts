/** The chats of one person in this browser: kept, asked, received. One for the whole page, whichever part of it is shown. */

import { chat } from "@/api/chat";
import { stopping, wake, type Model } from "@/api/models";
import { modelsQuery, sessionQuery } from "@/api/queries";
import { rememberedSession } from "@/api/session";
import { newId } from "@/lib/ids";
import { QueryObserver, type QueryClient } from "@tanstack/react-query";
import { choose, titleOf, type Conversation, type Message } from "./conversation";
import { Database, outgoingOf, UNTRIED, type Outgoing } from "./database";
import { LiveAnswers } from "./live";
import { Sender } from "./sender";

const LOOK_MS = 1000;

export interface Question {
  text: string;
  images: string[];
}

export class Chats {
  readonly live = new LiveAnswers();
  readonly #sender: Sender;
  readonly #told = new Set<string>(); // whose end is to be notified of
  #stopPolling: (() => void) | undefined;

  private constructor(
    readonly database: Database,
    private readonly client: QueryClient,
    private readonly owner: string,
  ) {
    this.#sender = new Sender({
      database,
      live: this.live,
      locks: navigator.locks,
      model: (name) => this.#models()?.find((model) => model.name === name),
      wake: async (name) => {
        await wake(name);
        await client.invalidateQueries(modelsQuery);
      },
      chat,
      now: Date.now,
    });
  }

  /** Raises where the browser keeps nothing. */
  static async start(client: QueryClient, owner: string): Promise<Chats> {
    const chats = new Chats(await Database.open(`diogenes:${owner}`, tabId()), client, owner);
    chats.database.onChange((change) => {
      if (change.kind === "stop") chats.#sender.stopHere(change.id);
      if (change.kind === "outbox" || change.kind === "all") chats.look();
    });
    client.getQueryCache().subscribe(({ type, query }) => {
      if (type === "updated" && query.queryKey[0] === modelsQuery.queryKey[0]) chats.look();
    });
    stopping.on((model) => void chats.#sender.stopWaiting(model));
    addEventListener("online", () => chats.look());
    document.addEventListener("visibilitychange", () => chats.look());
    setInterval(() => chats.look(), LOOK_MS);
    chats.look();
    return chats;
  }

  /** Do what is next with whatever waits. With the session of somebody else nothing is sent: they would pay for it. */
  look(): void {
    if (rememberedSession()?.email === this.owner) void this.#looked();
  }

  // -- questions

  /** Puts a question into the outbox. Returns the conversation as it then stands. */
  async ask(conversation: Conversation, parentId: string | null, question: Question): Promise<Conversation> {
    const asked = this.#message(conversation, parentId, "user", question);
    const answer = this.#message(conversation, asked.id, "assistant");
    return this.#queue(conversation, [asked, answer]);
  }

  /** Another answer beside this one, by the model that the conversation has now. */
  async regenerate(conversation: Conversation, answer: Message): Promise<Conversation> {
    return this.#queue(conversation, [this.#message(conversation, answer.parentId, "assistant")]);
  }

  async stop(id: string): Promise<void> {
    await this.#sender.stop(id);
  }

  /** Wake the model of a question again now, whatever was decided. */
  async tryNow(id: string): Promise<void> {
    await this.database.putOutgoing(id, UNTRIED);
  }

  /** A notification once this answer is there, if nobody looks. Call it on a click. */
  async notify(id: string): Promise<boolean> {
    if ((await Notification.requestPermission()) !== "granted") return false;
    this.#told.add(id);
    return true;
  }

  // --

  async #queue(conversation: Conversation, messages: Message[]): Promise<Conversation> {
    const now = Date.now() / 1000;
    const first = messages[0];
    const named = conversation.titled || conversation.title !== "New chat";
    const title = named || first?.role !== "user" ? conversation.title : titleOf(first.text);
    let changed: Conversation = { ...conversation, title, updatedAt: now };
    for (const message of messages) changed = choose(changed, message);
    const answer = messages.at(-1) as Message;
    const { id: conversationId, model } = conversation;
    await this.database.ask(changed, messages, outgoingOf({ id: answer.id, conversationId, model, queuedAt: now }));
    void navigator.storage?.persist?.();
    return changed;
  }

  #message(
    conversation: Conversation,
    parentId: string | null,
    role: Message["role"],
    { text, images }: Question = { text: "", images: [] },
  ): Message {
    return {
      id: newId(),
      conversationId: conversation.id,
      parentId,
      role,
      text,
      reasoning: "",
      images,
      status: role === "user" ? "done" : "waiting",
      createdAt: Date.now() / 1000,
      ...(role === "assistant" ? { model: conversation.model } : {}),
    };
  }

  async #looked(): Promise<void> {
    const outbox = await this.database.outbox();
    this.#poll(outbox.length > 0);
    await this.#tellWhatEnded(outbox);
    if (outbox.length) await this.#sender.look();
  }

  /** While something waits, the models are asked for even where no page shows them. */
  #poll(wanted: boolean): void {
    if (wanted) this.#stopPolling ??= new QueryObserver(this.client, modelsQuery).subscribe(() => undefined);
    else if (this.#stopPolling) {
      this.#stopPolling();
      this.#stopPolling = undefined;
    }
  }

  async #tellWhatEnded(outbox: readonly Outgoing[]): Promise<void> {
    for (const id of this.#told) {
      if (outbox.some((outgoing) => outgoing.id === id)) continue;
      this.#told.delete(id);
      const message = await this.database.message(id);
      if (!message || document.visibilityState === "visible") continue;
      const body =
        message.status === "done" ? message.text.slice(0, 120) : (message.error?.message ?? "It was stopped.");
      const shown = new Notification(`${message.model ?? "Your model"} has answered`, { body, tag: id });
      shown.addEventListener("click", () => focus());
    }
  }

  #models(): Model[] | undefined {
    return this.client.getQueryData(modelsQuery.queryKey);
  }
}

const TAB = "diogenes.tab";

/** The same after this tab was loaded again. */
function tabId(): string {
  const id = sessionStorage.getItem(TAB) ?? newId();
  sessionStorage.setItem(TAB, id);
  return id;
}

const started = new Map<string, Promise<Chats>>();

/** The chats of who is signed in; the same whenever they are asked for. */
export function chatsOf(client: QueryClient): Promise<Chats> {
  const owner = client.getQueryData(sessionQuery.queryKey)?.email ?? "";
  const chats = started.get(owner) ?? Chats.start(client, owner);
  started.set(owner, chats);
  return chats;
}
