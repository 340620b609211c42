import type { Delta } from "@/api/chat";
import { ApiError } from "@/api/errors";
import type { Model } from "@/api/models";
import { modelOf } from "@/testing/models";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Conversation, Message } from "./conversation";
import { Database } from "./database";
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

/** As in a browser: the first who asks has it until it ends. */
class Locks {
  readonly #held = new Set<string>();

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
  const outgoing = {
    id: "a",
    conversationId: "c",
    model: "small",
    queuedAt: 0,
    wokenAt: 0,
    refusedAt: 0,
    notBefore: 0,
    begun: false,
  };
  await database.ask(CHAT, [QUESTION, ANSWER], outgoing);
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
    id: "a",
    conversationId: "c",
    model: "small",
    queuedAt: 0,
    wokenAt: 1,
    refusedAt: 0,
    notBefore: 0,
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

test("a start that cannot succeed is told with what to do", async () => {
  const one = sender();
  await one.look();
  const failure = { code: "gpu_quota_exceeded", message: "0 vCPU.", fix: "Ask for 8.", permanent: true };
  model = modelOf({ status: "failed", failure });
  await one.look();
  expect(await settled()).toMatchObject({ error: { code: "gpu_quota_exceeded", message: "0 vCPU. Ask for 8." } });
});
