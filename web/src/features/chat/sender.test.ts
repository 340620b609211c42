import type { Delta } from "@/api/chat";
import { ApiError } from "@/api/errors";
import type { Model } from "@/api/models";
import { modelOf } from "@/testing/models";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Conversation, Message } from "./conversation";
import { Database, outgoingOf } from "./database";
import { PAUSE_S, REPEAT_WAKE_S, RETRY_FOR_S, TRIES } from "./outbox";
import { LiveAnswers } from "./live";
import { Sender, type World } from "./sender";

const CHAT: Conversation = {
  id: "c",
  title: "Hello",
  titled: false,
  model: "small",
  system: "Be kind.",
  params: { temperature: 0.2, maxTokens: 50 },
  chosen: {},
  createdAt: 0,
  updatedAt: 0,
};
const common = { conversationId: "c", reasoning: "", images: [], createdAt: 1 };
const QUESTION: Message = { ...common, id: "q", parentId: null, role: "user", text: "Hello", status: "done" };
const ANSWER: Message = {
  ...common,
  id: "a",
  parentId: "q",
  role: "assistant",
  text: "",
  status: "waiting",
  model: "small",
};

const ORDER = outgoingOf({ id: "a", conversationId: "c", model: "small", queuedAt: 0 });

/** As in a browser: the first who asks has it until it ends. */
class Locks {
  readonly #held = new Set<string>();

  get held(): number {
    return this.#held.size;
  }

  request = (async (name: string, _: LockOptions, use: (lock: Lock | null) => unknown) => {
    if (this.#held.has(name)) return use(null);
    this.#held.add(name);
    try {
      return await use({ name, mode: "exclusive" });
    } finally {
      this.#held.delete(name);
    }
  }) as LockManager["request"];
}

let database: Database;
let model: Model | undefined;
let now = 0;
let woken: string[] = [];
let asked: unknown[] = [];
const locks = new Locks();
let n = 0;

beforeEach(async () => {
  database = await Database.open(`test-${++n}`);
  [model, now, woken, asked] = [modelOf(), 1_000_000_000, [], []];
  await database.ask(CHAT, [QUESTION, ANSWER], ORDER);
});
afterEach(() => database.close());

type Chat = World["chat"];

function sender(chat: Chat = answering("Hi"), wake?: () => Promise<void>): Sender {
  return new Sender({
    database,
    live: new LiveAnswers(),
    locks,
    model: () => model,
    wake: async (name) => {
      woken.push(name);
      await wake?.();
    },
    chat: (body, signal) => {
      asked.push(body);
      return chat(body, signal);
    },
    now: () => now,
  });
}

function answering(...texts: string[]): Chat {
  return async function* () {
    for (const text of texts) {
      now += 100;
      yield { kind: "text", text } as Delta;
    }
    yield { kind: "usage", usage: { prompt_tokens: 4, completion_tokens: 3 } };
  };
}

function failing(error: unknown, before: Delta[] = []): Chat {
  return async function* () {
    yield* before;
    throw error;
  };
}

const answer = async () => (await database.message("a")) as Message;

async function settled(): Promise<Message> {
  for (let i = 0; i < 100; i++) {
    const message = await answer();
    if (!["waiting", "streaming"].includes(message.status)) return message;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  throw new Error(`still ${(await answer()).status}`);
}

test("a cold model is woken once, and nothing is sent to it", async () => {
  const one = sender();
  await one.look();
  await one.look();
  expect([woken, asked]).toEqual([["small"], []]);
  expect((await answer()).status).toBe("waiting");
});

test("when it is ready the question goes out with prompt and sampling, and the answer is kept with its figures", async () => {
  model = modelOf({ status: "ready", run: { started: 0, usd_per_h: 3.6, micro_usd: 0 } });
  await sender(answering("Hi", " there", "!")).look();
  const message = await settled();
  expect(asked).toEqual([
    {
      model: "small",
      messages: [
        { role: "system", content: "Be kind." },
        { role: "user", content: "Hello" },
      ],
      temperature: 0.2,
      max_tokens: 50,
    },
  ]);
  expect(message).toMatchObject({ text: "Hi there!", status: "done", firstTokenS: 0.1, tokensPerS: 10 });
  expect(message.usd).toBeCloseTo(0.0003);
  expect(await database.outbox()).toEqual([]);
});

test("of many tabs one sends", async () => {
  model = modelOf({ status: "ready" });
  const tabs = Array.from({ length: 5 }, () => sender());
  await Promise.all(tabs.map((tab) => tab.look()));
  await settled();
  await Promise.all(tabs.map((tab) => tab.look()));
  expect(asked).toHaveLength(1);
});

test("a question that was offline when it woke is tried again, and not lost", async () => {
  let fail = true;
  const one = sender(answering("Hi"), async () => {
    if (fail) throw new ApiError("no network", 0, "offline");
  });
  await one.look();
  expect(await database.outbox()).toHaveLength(1);
  [fail, now] = [false, now + 15_000];
  await one.look();
  expect(woken).toHaveLength(2);
});

test("a wake that can never succeed ends the question with the reason", async () => {
  const one = sender(answering("Hi"), async () => {
    throw new ApiError("The budget of this month is spent.", 403, "budget_exceeded");
  });
  await one.look();
  expect(await settled()).toMatchObject({ status: "failed", error: { code: "budget_exceeded" } });
});

test.each([
  ["the session has ended", new ApiError("Sign in.", 401, "unauthenticated")],
  ["the network is gone", new ApiError("offline", 0, "offline")],
  ["the model went back to sleep", new ApiError("Not yet.", 503, "model_starting")],
])("before the first piece it goes back to waiting when %s", async (_, error) => {
  model = modelOf({ status: "ready" });
  const one = sender(failing(error));
  await one.look();
  await expect.poll(async () => (await database.outgoing("a"))?.notBefore).toBeGreaterThan(0);
  expect((await answer()).status).toBe("waiting");
  await expect.poll(() => one.receives("a")).toBe(false);
  await one.look();
  expect(asked).toHaveLength(1);
  now += 10_000;
  await one.look();
  await expect.poll(() => asked.length).toBe(2);
  await expect.poll(() => one.receives("a")).toBe(false);
});

test("after the first piece what came is kept with the reason, and it is not sent again", async () => {
  model = modelOf({ status: "ready" });
  const error = new ApiError("The engine is gone.", 500, "engine_lost");
  const one = sender(failing(error, [{ kind: "text", text: "Hal" }]));
  await one.look();
  expect(await settled()).toMatchObject({ text: "Hal", status: "failed", error: { code: "engine_lost" } });
  await one.look();
  expect(asked).toHaveLength(1);
});

test("a page that was closed before anything came sends again; one that had received something does not", async () => {
  model = modelOf({ status: "ready" });
  await database.putOutgoing("a", { begun: true, wokenAt: 1 });
  await sender().look();
  expect(await settled()).toMatchObject({ text: "Hi", status: "done" });

  await database.ask(CHAT, [{ ...ANSWER, text: "Hal", status: "streaming" }], {
    ...ORDER,
    wokenAt: 1,
    begun: true,
  });
  await sender().look();
  expect(await settled()).toMatchObject({ text: "Hal", status: "stopped", finish: "interrupted" });
  expect(asked).toHaveLength(1);
});

test("stopping keeps what came", async () => {
  model = modelOf({ status: "ready" });
  const one = sender(async function* (_, signal) {
    yield { kind: "text", text: "Half" };
    await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  await one.look();
  await expect.poll(() => one.receives("a")).toBe(true);
  await expect.poll(async () => (await answer()).status).toBe("streaming");
  await one.stop("a");
  expect(await settled()).toMatchObject({ text: "Half", status: "stopped" });
});

test("stopping while it waits takes it out of the outbox", async () => {
  await sender().stop("a");
  expect(await settled()).toMatchObject({ status: "stopped", text: "" });
  expect(await database.outbox()).toEqual([]);
});

test("a start that cannot succeed is told with all that the server says to do", async () => {
  const one = sender();
  await one.look();
  const fixes = [{ text: "Ask for 8.", command: "aws service-quotas …", url: "https://aws.amazon.com/x" }];
  const failure = { code: "gpu_quota_exceeded", message: "0 vCPU.", fix: "Ask for 8.", permanent: true, fixes };
  model = modelOf({ status: "failed", failure });
  await one.look();
  expect((await settled()).error).toEqual({
    code: "gpu_quota_exceeded",
    message: "0 vCPU.",
    fix: "Ask for 8.",
    fixes,
  });
});

test("what a refusal says to do is kept with it", async () => {
  const fixes = [{ text: "Raise it.", command: "pulumi up", url: null }];
  const one = sender(answering("Hi"), async () => {
    throw new ApiError("Spent.", 403, "budget_exceeded", null, null, { fix: "Raise it.", fixes });
  });
  await one.look();
  expect((await settled()).error).toEqual({ code: "budget_exceeded", message: "Spent.", fix: "Raise it.", fixes });
});

test("a model that was stopped by hand is not woken again, and its questions can be sent again", async () => {
  const one = sender();
  await one.look();
  await database.ask(CHAT, [{ ...ANSWER, id: "b", model: "other" }], { ...ORDER, id: "b", model: "other" });
  await one.stopWaiting("small");
  now += 10 * REPEAT_WAKE_S * 1000;
  model = undefined;
  await one.look();
  expect(woken.filter((name) => name === "small")).toHaveLength(1);
  expect((await answer()).status).toBe("stopped");
  expect((await database.outbox()).map(({ id }) => id)).toEqual(["b"]);
});

test("a start that another device stopped is not begun again", async () => {
  const one = sender();
  await one.look();
  for (const status of ["starting", "draining", "cold"] as const) {
    model = modelOf({ status });
    now += 10 * REPEAT_WAKE_S * 1000;
    await one.look();
  }
  expect(woken).toHaveLength(1);
  expect((await answer()).status).toBe("waiting");
});

test("no machine for half an hour: given up with the reason, though the server has forgotten it", async () => {
  const one = sender();
  await one.look();
  const failure = { code: "no_gpu_capacity", message: "None.", fix: "Other types.", permanent: false };
  for (const seen of [{ status: "starting" }, { status: "failed", failure }, { status: "cold" }] as const) {
    model = modelOf(seen);
    await one.look();
  }
  expect(woken).toHaveLength(1);
  now += RETRY_FOR_S * 1000;
  await one.look();
  expect((await settled()).error).toEqual({ code: "no_gpu_capacity", message: "None.", fix: "Other types." });
});

test.each([
  ["it restarts", new ApiError("Ask again.", 503, "restarting", null, 5)],
  ["the edge finds nobody", new ApiError("Bad gateway.", 502, "http_502")],
])("a server of which %s is asked again a few times, then told", async (_, error) => {
  model = modelOf({ status: "ready" });
  const one = sender(failing(error));
  for (let tries = 0; tries <= TRIES; tries++) {
    expect((await answer()).status).toBe("waiting");
    await one.look();
    await expect.poll(() => asked.length).toBe(tries + 1);
    await expect.poll(() => one.receives("a")).toBe(false);
    now += 1_000_000;
  }
  expect(await settled()).toMatchObject({ status: "failed", error: { code: error.code } });
});

test("a server that fails to wake is asked ever more seldom, its reason shown, and not for ever", async () => {
  const one = sender(answering("Hi"), async () => {
    throw new ApiError("It broke.", 500, "internal_error");
  });
  const pauses: number[] = [];
  for (let tries = 0; tries < TRIES; tries++) {
    await one.look();
    const outgoing = await database.outgoing("a");
    expect(outgoing).toMatchObject({ wokenAt: 0, problem: "It broke." });
    pauses.push(outgoing!.notBefore - now / 1000);
    now = outgoing!.notBefore * 1000;
  }
  expect(pauses).toEqual([1, 2, 4, 8, 16].map((n) => n * PAUSE_S));
  await one.look();
  expect(await settled()).toMatchObject({ status: "failed", error: { code: "internal_error" } });
});

test("a stop between the look and the sending wins", async () => {
  model = modelOf({ status: "ready" });
  const one = sender();
  const found = database.conversation.bind(database);
  database.conversation = async (id) => {
    await one.stop("a");
    return found(id);
  };
  await one.look();
  await expect.poll(async () => (await answer()).status).toBe("stopped");
  await expect.poll(() => locks.held).toBe(0);
  expect(asked).toEqual([]);
});

test("the first piece is kept as it comes: a page that is closed then has paid for it", async () => {
  model = modelOf({ status: "ready" });
  const one = sender(async function* (_, signal) {
    yield { kind: "text", text: "Half" };
    await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  await one.look();
  await expect.poll(async () => (await answer()).text).toBe("Half");
  await one.stop("a");
  await settled();
});

test.each([
  ["its chat", () => database.remove("c")],
  ["all chats", () => database.clear()],
])("deleting %s ends the answer that comes, and nothing of it comes back", async (_, remove) => {
  model = modelOf({ status: "ready" });
  let ended = false;
  const one = sender(async function* (_body, signal) {
    yield { kind: "text", text: "Half" };
    await new Promise((_resolve, reject) =>
      signal.addEventListener("abort", () => {
        ended = true;
        reject(signal.reason);
      }),
    );
  });
  const quiet = database.onChange((change) => {
    if (change.kind === "stop") one.stopHere(change.id);
  });
  await one.look();
  await expect.poll(async () => (await answer())?.text).toBe("Half");
  await remove();
  await expect.poll(() => one.receives("a")).toBe(false);
  quiet();
  expect([ended, await database.allMessages(), await database.outbox()]).toEqual([true, [], []]);
});
