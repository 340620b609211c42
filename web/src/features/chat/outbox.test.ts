import type { Failure } from "@/api/models";
import { modelOf } from "@/testing/models";
import { describe, expect, test } from "vitest";
import { outgoingOf, type Outgoing } from "./database";
import { next, REPEAT_WAKE_S, RETRY_FOR_S, RETRY_S } from "./outbox";

const NOW = 1_000_000;

function outgoing(changes: Partial<Outgoing> = {}): Outgoing {
  const given = outgoingOf({ id: "a", conversationId: "c", model: "small", queuedAt: NOW - 10 });
  return { ...given, wokenAt: NOW - 5, ...changes };
}

const failed = (changes: Partial<Failure> = {}) =>
  modelOf({
    status: "failed",
    failure: { code: "no_gpu_capacity", message: "None.", fix: "", permanent: false, ...changes },
  });

describe("a question", () => {
  test("wakes its model at once, even before anything is known of it", () => {
    expect(next(outgoing({ wokenAt: 0 }), undefined, NOW)).toEqual({ kind: "wake" });
    expect(next(outgoing({ wokenAt: 0 }), modelOf(), NOW)).toEqual({ kind: "wake" });
    expect(next(outgoing({ wokenAt: 0 }), failed({ permanent: true }), NOW)).toEqual({ kind: "wake" });
  });

  test("is sent as soon as the model is ready", () => {
    const ready = modelOf({ status: "ready" });
    expect(next(outgoing(), ready, NOW)).toEqual({ kind: "send" });
    expect(next(outgoing({ wokenAt: 0 }), ready, NOW)).toEqual({ kind: "send" });
  });

  test("waits through the start, however long", () => {
    const starting = modelOf({ status: "starting" });
    expect(next(outgoing({ wokenAt: NOW - 3600 }), starting, NOW)).toEqual({ kind: "note-start" });
    expect(next(outgoing({ wokenAt: NOW - 3600, starting: true }), starting, NOW)).toEqual({ kind: "wait" });
  });

  test.each(["cold", "draining"] as const)("does not undo that somebody stopped the start: %s", (status) => {
    const seen = outgoing({ wokenAt: NOW - 3600, starting: true });
    expect(next(seen, modelOf({ status }), NOW)).toEqual({ kind: "ask" });
    expect(next(seen, modelOf({ status: "ready" }), NOW)).toEqual({ kind: "send" });
    expect(next({ ...seen, wokenAt: 0 }, modelOf({ status }), NOW)).toEqual({ kind: "wake" });
  });

  test("keeps to the time of the next try when the server has forgotten the failure", () => {
    const refused = outgoing({ wokenAt: NOW - 120, refusedAt: NOW - 100, failure: failed().failure });
    expect(next(refused, modelOf(), NOW)).toEqual({ kind: "hold", until: NOW - 120 + RETRY_S });
    expect(next(refused, modelOf(), NOW - 120 + RETRY_S)).toEqual({ kind: "wake" });
    expect(next(refused, modelOf(), NOW - 100 + RETRY_FOR_S)).toEqual({ kind: "give-up" });
  });

  test("wakes again what went back to sleep, but not with every look", () => {
    expect(next(outgoing(), modelOf(), NOW)).toEqual({ kind: "wait" });
    expect(next(outgoing({ wokenAt: NOW - REPEAT_WAKE_S }), modelOf(), NOW)).toEqual({ kind: "wake" });
  });

  test("is tried again later where AWS had no machine, for half an hour", () => {
    const since = { refusedAt: NOW - 60, wokenAt: NOW - 60 };
    expect(next(outgoing(since), failed(), NOW)).toEqual({ kind: "hold", until: NOW - 60 + RETRY_S });
    expect(next(outgoing(since), failed(), NOW - 60 + RETRY_S)).toEqual({ kind: "wake" });
    expect(next(outgoing({ ...since, refusedAt: NOW - RETRY_FOR_S }), failed(), NOW)).toEqual({ kind: "give-up" });
  });

  test("is not tried again where that cannot help", () => {
    expect(next(outgoing(), failed({ permanent: true }), NOW)).toEqual({ kind: "give-up" });
  });

  test("pauses after what passes", () => {
    const paused = outgoing({ notBefore: NOW + 5 });
    expect(next(paused, modelOf({ status: "ready" }), NOW)).toEqual({ kind: "wait" });
    expect(next(paused, modelOf({ status: "ready" }), NOW + 5)).toEqual({ kind: "send" });
  });

  test("goes by the server where it says when to try", () => {
    const told = failed({ next_try_at: NOW + 1000 });
    expect(next(outgoing(), told, NOW)).toEqual({ kind: "hold", until: NOW + 1000 });
  });
});
