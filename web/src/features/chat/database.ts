/** Chats in this browser's IndexedDB. Every change is told to this tab and to the others. */

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
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: string; value: Message; indexes: { conversationId: string } };
  outbox: { key: string; value: Outgoing };
  drafts: { key: string; value: { id: string; text: string; images: string[] } };
}

export type Change =
  { kind: "conversation"; id: string } | { kind: "outbox" } | { kind: "all" } | { kind: "stop"; id: string }; // whoever receives this answer shall end it

const CHANNEL = "diogenes.chats";

export class Database {
  readonly #changes = new Emitter<Change>();
  readonly #channel: BroadcastChannel | undefined;

  private constructor(private readonly db: IDBPDatabase<Schema>) {
    this.#channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(CHANNEL);
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<Change>) => this.#changes.emit(data));
  }

  /** Raises where the browser keeps nothing (a private window of some). */
  static async open(name = "diogenes"): Promise<Database> {
    const db = await openDB<Schema>(name, 1, {
      upgrade(fresh) {
        fresh.createObjectStore("conversations", { keyPath: "id" });
        fresh.createObjectStore("messages", { keyPath: "id" }).createIndex("conversationId", "conversationId");
        fresh.createObjectStore("outbox", { keyPath: "id" });
        fresh.createObjectStore("drafts", { keyPath: "id" });
      },
    });
    return new Database(db);
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

  async draft(id: string): Promise<{ text: string; images: string[] }> {
    return (await this.db.get("drafts", id)) ?? { text: "", images: [] };
  }

  // -- what changes

  /** A question, its answer to be, and the order to send it: all of it or nothing. */
  async ask(conversation: Conversation, messages: readonly Message[], outgoing: Outgoing): Promise<void> {
    const tx = this.db.transaction(["conversations", "messages", "outbox", "drafts"], "readwrite");
    void tx.objectStore("conversations").put(conversation);
    for (const message of messages) void tx.objectStore("messages").put(message);
    void tx.objectStore("outbox").put(outgoing);
    void tx.objectStore("drafts").delete(conversation.id);
    await tx.done;
    this.#tell({ kind: "conversation", id: conversation.id });
    this.#tell({ kind: "outbox" });
  }

  async putConversation(conversation: Conversation): Promise<void> {
    await this.db.put("conversations", conversation);
    this.#tell({ kind: "conversation", id: conversation.id });
  }

  async putMessage(message: Message): Promise<void> {
    await this.db.put("messages", message);
    this.#tell({ kind: "conversation", id: message.conversationId });
  }

  /** The answer as it now stands, and the order gone with it: it is sent, and will not be again. */
  async settle(message: Message): Promise<void> {
    const tx = this.db.transaction(["messages", "outbox"], "readwrite");
    void tx.objectStore("messages").put(message);
    void tx.objectStore("outbox").delete(message.id);
    await tx.done;
    this.#tell({ kind: "conversation", id: message.conversationId });
    this.#tell({ kind: "outbox" });
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

  async putDraft(id: string, draft: { text: string; images: string[] }): Promise<void> {
    if (draft.text || draft.images.length) await this.db.put("drafts", { id, ...draft });
    else await this.db.delete("drafts", id);
  }

  async remove(conversationId: string): Promise<void> {
    const tx = this.db.transaction(["conversations", "messages", "outbox", "drafts"], "readwrite");
    const ids = await tx.objectStore("messages").index("conversationId").getAllKeys(conversationId);
    for (const id of ids) {
      void tx.objectStore("messages").delete(id);
      void tx.objectStore("outbox").delete(id);
    }
    void tx.objectStore("conversations").delete(conversationId);
    void tx.objectStore("drafts").delete(conversationId);
    await tx.done;
    this.#tell({ kind: "all" });
  }

  /** Adds what is not there; what is stays as it is. Returns how many conversations came. */
  async add(conversations: readonly Conversation[], messages: readonly Message[]): Promise<number> {
    const tx = this.db.transaction(["conversations", "messages"], "readwrite");
    const known = new Set(await tx.objectStore("conversations").getAllKeys());
    const fresh = conversations.filter(({ id }) => !known.has(id));
    const ids = new Set(fresh.map(({ id }) => id));
    for (const conversation of fresh) void tx.objectStore("conversations").put(conversation);
    for (const message of messages) if (ids.has(message.conversationId)) void tx.objectStore("messages").put(message);
    await tx.done;
    this.#tell({ kind: "all" });
    return fresh.length;
  }

  async clear(): Promise<void> {
    const names = ["conversations", "messages", "outbox", "drafts"] as const;
    const tx = this.db.transaction(names, "readwrite");
    for (const name of names) void tx.objectStore(name).clear();
    await tx.done;
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
