/** Takes questions from the outbox to the model and answers back into the database. One tab at a time per question. */

import type { ChatRequest, Delta, TokenUsage } from "@/api/chat";
import { ApiError, messageOf } from "@/api/errors";
import { hourlyUsd, type Model } from "@/api/models";
import { promptFor, type Conversation, type Message, type Told } from "./conversation";
import type { Database, Outgoing } from "./database";
import type { LiveAnswers } from "./live";
import { Meter } from "./meter";
import { next, PAUSE_S, type Action } from "./outbox";
import { triesOf, toldOf } from "./trouble";

const KEEP_EVERY_MS = 1000;

export interface World {
  database: Database;
  live: LiveAnswers;
  locks: Pick<LockManager, "request">;
  model: (name: string) => Model | undefined; // as last heard
  wake: (name: string) => Promise<void>;
  chat: (body: ChatRequest, signal: AbortSignal) => AsyncGenerator<Delta>;
  now: () => number; // Unix milliseconds
}

export class Sender {
  readonly #stops = new Map<string, AbortController>();
  #looking = false;
  #again = false;

  constructor(private readonly world: World) {}

  /** Look at everything that waits, and do what is next. Safe to call at any time, in any tab. */
  async look(): Promise<void> {
    this.#again = true;
    if (this.#looking) return;
    this.#looking = true;
    try {
      while (this.#again) {
        this.#again = false;
        for (const outgoing of await this.world.database.outbox()) await this.#take(outgoing);
      }
    } finally {
      this.#looking = false;
    }
  }

  /** End an answer here, or a wait for one; what has come of it stays. */
  async stop(id: string): Promise<void> {
    const here = this.#stops.get(id);
    if (here) return here.abort();
    const { database } = this.world;
    const found = await database.withdraw(id);
    if (found?.begun) database.askToStop(id);
  }

  /** Somebody put the model to sleep: what waits for it would wake it again. */
  async stopWaiting(model: string): Promise<void> {
    const { database } = this.world;
    const waiting = (await database.outbox()).filter((outgoing) => outgoing.model === model);
    for (const { id } of waiting) await database.withdraw(id);
  }

  /** The same, asked for by another tab. */
  stopHere(id: string): void {
    this.#stops.get(id)?.abort();
  }

  /** Whether this tab is the one that receives it. */
  receives(id: string): boolean {
    return this.#stops.has(id);
  }

  async #take(outgoing: Outgoing): Promise<void> {
    if (this.#stops.has(outgoing.id)) return;
    const now = this.world.now() / 1000;
    const action: Action = outgoing.begun ? { kind: "send" } : next(outgoing, this.world.model(outgoing.model), now);
    switch (action.kind) {
      case "wait":
      case "ask":
        return;
      case "note-start":
        await this.world.database.putOutgoing(outgoing.id, { starting: true });
        return;
      case "hold":
        return this.#hold(outgoing, now);
      case "wake":
        return this.#wake(outgoing, now);
      case "give-up":
        return this.#giveUp(outgoing);
      case "send":
        // Not awaited: an answer may take minutes, and others wait too.
        void this.world.locks.request(`diogenes.send.${outgoing.id}`, { ifAvailable: true }, (lock) =>
          lock ? this.#send(outgoing.id) : undefined,
        );
    }
  }

  /** Why it failed is kept: the server forgets it before the next try. */
  async #hold({ id, model, refusedAt, starting }: Outgoing, now: number): Promise<void> {
    if (refusedAt && !starting) return;
    const failure = this.world.model(model)?.failure ?? null;
    await this.world.database.putOutgoing(id, { refusedAt: refusedAt || now, starting: false, failure });
  }

  async #wake(outgoing: Outgoing, now: number): Promise<void> {
    const { database } = this.world;
    // The intent first: another tab that looks now must not ask as well.
    if (!(await database.putOutgoing(outgoing.id, { wokenAt: now }))) return;
    try {
      await this.world.wake(outgoing.model);
      if (outgoing.problem) await database.putOutgoing(outgoing.id, { tries: 0, problem: "" });
    } catch (error) {
      if (outgoing.tries >= triesOf(error, "wake")) await this.#fail(outgoing.id, toldOf(error));
      else await this.#pause(outgoing, error, { wokenAt: outgoing.wokenAt, problem: messageOf(error) });
    }
  }

  /** It stays, and is tried again: later each time where the server is to blame. */
  async #pause({ id, tries }: Outgoing, error: unknown, change: Partial<Outgoing>): Promise<void> {
    const counts = Number.isFinite(triesOf(error, "wake"));
    const pauseS = (error instanceof ApiError && error.retryAfterS) || PAUSE_S * (counts ? 2 ** tries : 1);
    const notBefore = this.world.now() / 1000 + pauseS;
    await this.world.database.putOutgoing(id, { ...change, notBefore, tries: counts ? tries + 1 : tries });
  }

  async #giveUp(outgoing: Outgoing): Promise<void> {
    const { code, message, fix, fixes } = this.world.model(outgoing.model)?.failure ?? outgoing.failure ?? UNKNOWN;
    await this.#fail(outgoing.id, { code, message, fix, ...(fixes ? { fixes } : {}) });
  }

  async #fail(id: string, error: Told): Promise<void> {
    const message = await this.world.database.message(id);
    if (message) await this.world.database.settle({ ...message, status: "failed", error });
  }

  /** Holds the question's lock. */
  async #send(id: string): Promise<void> {
    const { database } = this.world;
    const outgoing = await database.outgoing(id); // another tab may have done it meanwhile
    const message = outgoing && (await database.message(id));
    const conversation = message && (await database.conversation(message.conversationId));
    if (!outgoing || !message || !conversation) return;
    if (outgoing.begun) {
      // Whoever had begun is gone with the lock. What it had received is paid for, so it is not asked for again.
      const nothing = !message.text && !message.reasoning;
      if (!nothing) return database.settle({ ...message, status: "stopped", finish: "interrupted" });
    }
    const stop = new AbortController();
    this.#stops.set(id, stop);
    try {
      // Not there any more: it was stopped between the look above and now.
      if (!(await database.putOutgoing(id, { begun: true }))) return;
      await this.#receive(conversation, { ...message, status: "streaming" }, stop.signal);
    } finally {
      this.#stops.delete(id);
      this.world.live.end(id);
    }
  }

  async #receive(conversation: Conversation, message: Message, signal: AbortSignal): Promise<void> {
    const { database } = this.world;
    const model = message.model ?? conversation.model;
    const answer = new Answer(message, this.world.now(), hourlyUsdOf(this.world.model(model)));
    try {
      const messages = await database.messages(conversation.id);
      const body: ChatRequest = {
        model,
        messages: promptFor(conversation, messages, message.parentId),
        ...samplingOf(conversation),
      };
      await database.putMessage(answer.message("streaming"));
      let keptAt = 0; // the first piece is kept at once: with it the answer is paid for
      for await (const delta of this.world.chat(body, signal)) {
        answer.take(delta, this.world.now());
        this.world.live.update(message.id, answer.shown());
        if (this.world.now() - keptAt < KEEP_EVERY_MS) continue;
        keptAt = this.world.now();
        await database.putMessage(answer.message("streaming")); // for other tabs, and for a page that is closed
      }
      await database.settle(answer.message("done"));
    } catch (error) {
      await this.#broken(answer, error, signal);
    }
  }

  async #broken(answer: Answer, error: unknown, signal: AbortSignal): Promise<void> {
    const { database } = this.world;
    if (signal.aborted) return database.settle(answer.message("stopped"));
    const outgoing = answer.empty ? await database.outgoing(answer.id) : undefined;
    if (outgoing && outgoing.tries < triesOf(error, "send")) {
      // Nothing came, so nothing is lost: back to waiting, with its place kept.
      await database.putMessage(answer.message("waiting"));
      return this.#pause(outgoing, error, { begun: false });
    }
    await database.settle({ ...answer.message("failed"), error: toldOf(error) });
  }
}

const UNKNOWN: Told & { fix: string } = { code: "model_failed", message: "The model could not start.", fix: "" };

const hourlyUsdOf = (model: Model | undefined): number | null => (model ? hourlyUsd(model) : null);

function samplingOf({ params }: Conversation): Pick<ChatRequest, "temperature" | "top_p" | "max_tokens"> {
  return {
    ...(params.temperature === undefined ? {} : { temperature: params.temperature }),
    ...(params.topP === undefined ? {} : { top_p: params.topP }),
    ...(params.maxTokens === undefined ? {} : { max_tokens: params.maxTokens }),
  };
}

/** One answer as it grows. */
class Answer {
  #text = "";
  #reasoning = "";
  #finish: string | undefined;
  #usage: TokenUsage | undefined;
  readonly #meter: Meter;

  constructor(
    private readonly begun: Message,
    now: number,
    private readonly usdPerHour: number | null,
  ) {
    this.#meter = new Meter(now);
  }

  get id(): string {
    return this.begun.id;
  }

  get empty(): boolean {
    return !this.#text && !this.#reasoning;
  }

  take(delta: Delta, now: number): void {
    switch (delta.kind) {
      case "text":
        this.#text += delta.text;
        this.#meter.piece(now, "text");
        break;
      case "reasoning":
        this.#reasoning += delta.text;
        this.#meter.piece(now, "reasoning");
        break;
      case "finish":
        this.#finish = delta.reason;
        break;
      case "usage":
        this.#usage = delta.usage;
    }
  }

  shown() {
    const { tokensPerS } = this.#meter.figures(this.#usage, null);
    return { text: this.#text, reasoning: this.#reasoning, tokensPerS: tokensPerS ?? null };
  }

  message(status: Message["status"]): Message {
    return {
      ...this.begun,
      ...this.#meter.figures(this.#usage, this.usdPerHour),
      text: this.#text,
      reasoning: this.#reasoning,
      status,
      ...(this.#finish ? { finish: this.#finish } : {}),
    };
  }
}
