/** Chats in this browser's IndexedDB. Every change is told to this tab and to the others. */

import type { Failure } from "@/api/models";
import { Emitter } from "@/lib/emitter";
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { Conversation, Message } from "./conversation";

/** A question that is to be sent once its model is ready. */
export interface Outgoing {
  id: string; // of the answer's message
  conversationId: string;
  model: string;
  queuedAt: number; // Unix seconds
  wokenAt: number; // last asked to wake; 0: never
  refusedAt: number; // since when the start fails; 0: it does not
  notBefore: number; // after what passes (offline, signed out): not again sooner
  begun: boolean; // sent: never again by itself
  starting: boolean; // a start was under way when it was last looked at
  failure: Failure | null; // why the last start failed
  tries: number; // that a broken server spoiled, one after the other
  problem: string; // what is in the way of waking; empty: nothing
}

/** An order as it is first given. */
export function outgoingOf(given: Pick<Outgoing, "id" | "conversationId" | "model" | "queuedAt">): Outgoing {
  return { ...given, ...UNTRIED, begun: false };
}

/** Of an order that begins anew. */
export const UNTRIED = {
  wokenAt: 0,
  refusedAt: 0,
  notBefore: 0,
  starting: false,
  failure: null,
  tries: 0,
  problem: "",
} as const;

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: string; value: Message; indexes: { conversationId: string } };
  outbox: { key: string; value: Outgoing };
  drafts: { key: string; value: Draft & { id: string } };
}

export interface Draft {
  text: string;
  images: string[];
}

/** What is written of a chat that is not there yet. */
export const NEW = "new";

export type Change =
  { kind: "conversation"; id: string } | { kind: "outbox" } | { kind: "all" } | { kind: "stop"; id: string }; // whoever receives this answer shall end it

const CHANNEL = "diogenes.chats";

/** The draft of a question that is edited. */
export const editOf = (messageId: string): string => `edit:${messageId}`;

export class Database {
  readonly #changes = new Emitter<Change>();
  readonly #channel: BroadcastChannel | undefined;

  private constructor(
    private readonly db: IDBPDatabase<Schema>,
    private readonly tab: string,
  ) {
    const channel = `${CHANNEL}.${db.name}`;
    this.#channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(channel);
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<Change>) => this.#changes.emit(data));
  }

  /** `tab` names this tab, the same after it was loaded again. Raises where the browser keeps nothing (a private window
   * of some). */
  static async open(name: string, tab = ""): Promise<Database> {
    const db = await openDB<Schema>(name, 1, {
      upgrade(fresh) {
        fresh.createObjectStore("conversations", { keyPath: "id" });
        fresh.createObjectStore("messages", { keyPath: "id" }).createIndex("conversationId", "conversationId");
        fresh.createObjectStore("outbox", { keyPath: "id" });
        fresh.createObjectStore("drafts", { keyPath: "id" });
      },
    });
    return new Database(db, tab);
  }

  close(): void {
    this.#channel?.close();
    this.db.close();
  }

  onChange(listener: (change: Change) => void): () => void {
    return this.#changes.on(listener);
  }

  // -- what there is

  async conversations(): Promise<Conversation[]> {
    return (await this.db.getAll("conversations")).toSorted((a, b) => b.updatedAt - a.updatedAt);
  }

  conversation(id: string): Promise<Conversation | undefined> {
    return this.db.get("conversations", id);
  }

  messages(conversationId: string): Promise<Message[]> {
    return this.db.getAllFromIndex("messages", "conversationId", conversationId);
  }

  allMessages(): Promise<Message[]> {
    return this.db.getAll("messages");
  }

  message(id: string): Promise<Message | undefined> {
    return this.db.get("messages", id);
  }

  outbox(): Promise<Outgoing[]> {
    return this.db.getAll("outbox");
  }

  outgoing(id: string): Promise<Outgoing | undefined> {
    return this.db.get("outbox", id);
  }

  /** Of a new chat: what this tab wrote, else what was written last in any. */
  async draft(id: string): Promise<Draft> {
    const own = id === NEW ? await this.db.get("drafts", this.#own) : undefined;
    return own ?? (await this.db.get("drafts", id)) ?? { text: "", images: [] };
  }

  // -- what changes

  /** A question, its answer to be, and the order to send it: all of it or nothing. */
  async ask(conversation: Conversation, messages: readonly Message[], outgoing: Outgoing): Promise<void> {
    const tx = this.db.transaction(["conversations", "messages", "outbox"], "readwrite");
    void tx.objectStore("conversations").put(conversation);
    for (const message of messages) void tx.objectStore("messages").put(message);
    void tx.objectStore("outbox").put(outgoing);
    await tx.done;
    this.#tell({ kind: "conversation", id: conversation.id });
    this.#tell({ kind: "outbox" });
  }

  async putConversation(conversation: Conversation): Promise<void> {
    await this.db.put("conversations", conversation);
    this.#tell({ kind: "conversation", id: conversation.id });
  }

  /** Changes a message if it is still there: an answer that comes does not bring a deleted chat back. */
  async putMessage(message: Message): Promise<void> {
    const tx = this.db.transaction("messages", "readwrite");
    if (await tx.store.getKey(message.id)) void tx.store.put(message);
    await tx.done;
    this.#tell({ kind: "conversation", id: message.conversationId });
  }

  /** The answer as it now stands, if it is still there, and the order gone with it: it will not be sent again. */
  async settle(message: Message): Promise<void> {
    const tx = this.db.transaction(["messages", "outbox"], "readwrite");
    const messages = tx.objectStore("messages");
    if (await messages.getKey(message.id)) void messages.put(message);
    void tx.objectStore("outbox").delete(message.id);
    await tx.done;
    this.#tell({ kind: "conversation", id: message.conversationId });
    this.#tell({ kind: "outbox" });
  }

  /** Takes an order back unless it has begun, in one step: nobody begins it meanwhile. Returns it as it was found. */
  async withdraw(id: string): Promise<Outgoing | undefined> {
    const tx = this.db.transaction(["messages", "outbox"], "readwrite");
    const found = await tx.objectStore("outbox").get(id);
    if (found && !found.begun) {
      const message = await tx.objectStore("messages").get(id);
      if (message) void tx.objectStore("messages").put({ ...message, status: "stopped" });
      void tx.objectStore("outbox").delete(id);
    }
    await tx.done;
    if (found) this.#tell({ kind: "conversation", id: found.conversationId });
    if (found) this.#tell({ kind: "outbox" });
    return found;
  }

  /** Changes an order if it is still there. */
  async putOutgoing(id: string, change: Partial<Outgoing>): Promise<Outgoing | undefined> {
    const tx = this.db.transaction("outbox", "readwrite");
    const found = await tx.store.get(id);
    const changed = found && { ...found, ...change };
    if (changed) void tx.store.put(changed);
    await tx.done;
    if (changed) this.#tell({ kind: "outbox" });
    return changed;
  }

  async putDraft(id: string, { text, images }: Draft): Promise<void> {
    if (!text && !images.length) return this.dropDraft(id, text);
    const tx = this.db.transaction("drafts", "readwrite");
    for (const each of this.#draftIds(id)) void tx.store.put({ id: each, text, images });
    await tx.done;
  }

  /** Asked, or given up. What another tab has written of a new chat meanwhile stays. */
  async dropDraft(id: string, text: string): Promise<void> {
    const tx = this.db.transaction("drafts", "readwrite");
    const [last, own] = [await tx.store.get(id), await tx.store.get(this.#own)];
    const others = id === NEW && last && last.text !== text && last.text !== own?.text;
    if (!others) void tx.store.delete(id);
    if (id === NEW) void tx.store.delete(this.#own);
    await tx.done;
  }

  get #own(): string {
    return `${NEW}:${this.tab}`;
  }

  #draftIds(id: string): string[] {
    return id === NEW ? [id, this.#own] : [id];
  }

  /** Whoever receives one of its answers ends that. */
  async remove(conversationId: string): Promise<void> {
    const tx = this.db.transaction(["conversations", "messages", "outbox", "drafts"], "readwrite");
    const ids = await tx.objectStore("messages").index("conversationId").getAllKeys(conversationId);
    for (const id of ids) {
      void tx.objectStore("messages").delete(id);
      void tx.objectStore("outbox").delete(id);
      void tx.objectStore("drafts").delete(editOf(id));
    }
    void tx.objectStore("conversations").delete(conversationId);
    void tx.objectStore("drafts").delete(conversationId);
    await tx.done;
    for (const id of ids) this.#tell({ kind: "stop", id });
    this.#tell({ kind: "all" });
  }

  /** Adds what is not there; what is stays as it is. Returns how many conversations came. */
  async add(conversations: readonly Conversation[], messages: readonly Message[]): Promise<number> {
    const tx = this.db.transaction(["conversations", "messages"], "readwrite");
    const known = new Set(await tx.objectStore("conversations").getAllKeys());
    const said = new Set(await tx.objectStore("messages").getAllKeys());
    const fresh = conversations.filter(({ id }) => !known.has(id));
    const ids = new Set(fresh.map(({ id }) => id));
    for (const conversation of fresh) void tx.objectStore("conversations").put(conversation);
    const wanted = messages.filter(({ id, conversationId }) => ids.has(conversationId) && !said.has(id));
    for (const message of wanted) void tx.objectStore("messages").put(message);
    await tx.done;
    this.#tell({ kind: "all" });
    return fresh.length;
  }

  /** Whoever receives an answer ends that. */
  async clear(): Promise<void> {
    const names = ["conversations", "messages", "outbox", "drafts"] as const;
    const tx = this.db.transaction(names, "readwrite");
    const underWay = await tx.objectStore("outbox").getAllKeys();
    for (const name of names) void tx.objectStore(name).clear();
    await tx.done;
    for (const id of underWay) this.#tell({ kind: "stop", id });
    this.#tell({ kind: "all" });
  }

  /** Ask the tab that receives an answer to end it. */
  askToStop(id: string): void {
    this.#tell({ kind: "stop", id });
  }

  #tell(change: Change): void {
    this.#changes.emit(change);
    this.#channel?.postMessage(change);
  }
}
