import { expect, test } from "vitest";
import { sseMessages } from "./sse";

function answer(...packets: Uint8Array[]): Response {
  return new Response(
    new ReadableStream({
      start(controller) {
        for (const packet of packets) controller.enqueue(packet);
        controller.close();
      },
    }),
  );
}

async function dataOf(response: Response): Promise<string[]> {
  const all: string[] = [];
  for await (const { data } of sseMessages(response)) all.push(data);
  return all;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("every cut of the bytes gives the same messages", async () => {
  const whole = bytes(": wait\n\ndata: Grüße, 世界 🏺\n\nevent: x\ndata: two\ndata: lines\n\n");
  for (let cut = 0; cut <= whole.length; cut++) {
    const packets = [whole.slice(0, cut), whole.slice(cut)];
    expect(await dataOf(answer(...packets))).toEqual(["Grüße, 世界 🏺", "two\nlines"]);
  }
});

test("one byte a packet is no different", async () => {
  const whole = bytes("data: é\r\n\r\ndata: [DONE]\r\n\r\n");
  const packets = Array.from(whole, (byte) => Uint8Array.of(byte));
  expect(await dataOf(answer(...packets))).toEqual(["é", "[DONE]"]);
});

test("comments are no messages", async () => {
  expect(await dataOf(answer(bytes(": diogenes phase=weights\n\n: again\n\n")))).toEqual([]);
});

test("who leaves cancels the stream", async () => {
  let cancelled = false;
  const response = new Response(
    new ReadableStream({
      pull: (controller) => controller.enqueue(bytes("data: more\n\n")),
      cancel: () => {
        cancelled = true;
      },
    }),
  );
  for await (const { data } of sseMessages(response)) {
    expect(data).toBe("more");
    break;
  }
  expect(cancelled).toBe(true);
});
