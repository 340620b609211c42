// @vitest-environment jsdom
import { cancelStart, putToSleep, type Failure } from "@/api/models";
import { modelsQuery, newQueryClient, sessionQuery } from "@/api/queries";
import { rememberSession, type Session } from "@/api/session";
import { setApiBase } from "@/api/client";
import { CHAT } from "@/testing/chat";
import { modelOf } from "@/testing/models";
import { act, cleanup, configure, fireEvent, render, screen } from "@testing-library/react";
import { QueryClientProvider, type QueryClient } from "@tanstack/react-query";
import { http, HttpResponse } from "msw";
import { setupServer } from "msw/node";
import type { ReactNode } from "react";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { chatsOf, type Chats } from "./chats";
import { Composer } from "./composer";
import type { Message } from "./conversation";
import { editOf } from "./database";
import { MessageView } from "./message";
import { RETRY_S } from "./outbox";
import { Waiting } from "./waiting";

const server = setupServer();
beforeAll(() => {
  configure({ asyncUtilTimeout: 20_000 }); // a busy machine is no failure
  setApiBase("http://diogenes.test");
  server.listen({ onUnhandledRequest: "error" });
  vi.stubGlobal("matchMedia", () => ({ matches: false }));
  Object.defineProperty(navigator, "locks", { value: { request: () => undefined } });
});
afterAll(() => server.close());

const FAILURE: Failure = { code: "no_gpu_capacity", message: "No machine.", fix: "", permanent: false };

let client: QueryClient;
let chats: Chats;
let n = 0;

function signIn(email: string): Promise<Chats> {
  const session = { email, owner: true } as Session;
  rememberSession(session);
  client.setQueryData(sessionQuery.queryKey, session);
  return chatsOf(client);
}

beforeEach(async () => {
  server.use(
    http.get("http://diogenes.test/api/models", () => HttpResponse.json({ models: [modelOf()] })),
    http.post("http://diogenes.test/api/cluster/scale", () => HttpResponse.json({})),
    http.post("http://diogenes.test/api/models/small/cancel", () => HttpResponse.json({})),
  );
  client = newQueryClient();
  client.setQueryData(modelsQuery.queryKey, [modelOf()]);
  chats = await signIn(`person-${++n}@example.com`);
});
afterEach(() => {
  cleanup();
  rememberSession(undefined);
  server.resetHandlers();
});

const shown = (children: ReactNode) => render(<QueryClientProvider client={client}>{children}</QueryClientProvider>);

/** The answer that is waited for. */
async function asked(): Promise<Message> {
  await chats.ask(CHAT, null, { text: "Hello", images: [] });
  return (await chats.database.messages("c")).find(({ role }) => role === "assistant") as Message;
}

/** The same, its model asked for. */
async function woke(): Promise<Message> {
  const message = await asked();
  await expect.poll(async () => (await chats.database.outgoing(message.id))?.wokenAt).toBeGreaterThan(0);
  return message;
}

const props = { draftId: "c", busy: false, images: false, disabled: false, onStop: vi.fn(), onEditLast: vi.fn() };

test("a question that the browser does not keep stays where it was written", async () => {
  const onAsk = vi.fn().mockRejectedValueOnce(new Error("the disk is full")).mockResolvedValueOnce(undefined);
  shown(<Composer {...props} chats={chats} onAsk={onAsk} />);
  const area = screen.getByLabelText<HTMLTextAreaElement>("Message");
  fireEvent.change(area, { target: { value: "Is it kept?" } });
  fireEvent.keyDown(area, { key: "Enter" });
  expect((await screen.findByRole("alert")).textContent).toContain("the disk is full");
  expect(area.value).toBe("Is it kept?");
  fireEvent.keyDown(area, { key: "Enter" });
  await expect.poll(() => area.value).toBe("");
  expect(screen.queryByRole("alert")).toBeNull();
});

test("what is written into a question that is edited is a draft of its own", async () => {
  const question = { ...(await asked()), id: "q", role: "user", text: "Hello", status: "done" } as Message;
  const actions = { regenerate: vi.fn(), edit: vi.fn().mockResolvedValue(undefined), show: vi.fn() };
  const view = (
    <MessageView chats={chats} message={question} siblings={[]} actions={actions} editing onEditing={vi.fn()} />
  );
  const first = shown(view);
  fireEvent.change(screen.getByLabelText("Edit message"), { target: { value: "Hello again" } });
  first.unmount(); // the page is left
  await expect.poll(async () => (await chats.database.draft(editOf("q"))).text).toBe("Hello again");
  shown(view);
  const area = () => screen.getByLabelText<HTMLTextAreaElement>("Edit message");
  await expect.poll(() => area().value).toBe("Hello again");
  fireEvent.click(screen.getByRole("button", { name: "Send again" }));
  await expect.poll(() => actions.edit.mock.calls).toEqual([[question, "Hello again"]]);
  await expect.poll(async () => (await chats.database.draft(editOf("q"))).text).toBe("");
});

test("why there is no answer is told with its command and its page", async () => {
  const fixes = [{ text: "Accept its licence.", command: "pulumi up", url: "https://huggingface.co/x/y" }];
  const error = { code: "gated_model", message: "It is gated.", fix: "", fixes };
  const message: Message = { ...(await asked()), status: "failed", error };
  const actions = { regenerate: vi.fn(), edit: vi.fn(), show: vi.fn() };
  shown(
    <MessageView chats={chats} message={message} siblings={[]} actions={actions} editing={false} onEditing={vi.fn()} />,
  );
  const panel = screen.getByRole("alert");
  expect(panel.textContent).toContain("pulumi up");
  expect(panel.querySelector("a")?.href).toBe("https://huggingface.co/x/y");
});

test("the next try is told while the model is asleep again", async () => {
  const message = await woke();
  const now = Date.now() / 1000;
  await chats.database.putOutgoing(message.id, { wokenAt: now - 120, refusedAt: now - 100, failure: FAILURE });
  shown(<Waiting chats={chats} message={message} />);
  await screen.findByText("No machine.");
  const at = new Date((now - 120 + RETRY_S) * 1000);
  expect(screen.getByRole("status").textContent).toContain(`:${String(at.getMinutes()).padStart(2, "0")}`);
});

test("after a start that somebody stopped one is asked before the next", async () => {
  const message = await woke();
  await chats.database.putOutgoing(message.id, { wokenAt: 1, starting: true });
  shown(<Waiting chats={chats} message={message} />);
  await screen.findByText(/went back to sleep/);
  fireEvent.click(screen.getByRole("button", { name: "Do not send" }));
  await expect.poll(async () => (await chats.database.message(message.id))?.status).toBe("stopped");
});

test.each([
  ["cancelled", cancelStart],
  ["put to sleep", putToSleep],
])("nothing waits any more for a model that is %s, on whichever page", async (_, stop) => {
  const message = await asked();
  await act(() => stop("small"));
  await expect.poll(async () => (await chats.database.message(message.id))?.status).toBe("stopped");
  expect(await chats.database.outbox()).toEqual([]);
});

test("the next person at this browser sees no chats of the one before, and sends none of their questions", async () => {
  rememberSession(undefined); // signed out: nothing is looked at
  const waiting = await asked();
  const theirs = await signIn(`person-${++n}@example.com`);
  expect(await theirs.database.conversations()).toEqual([]);
  chats.look();
  theirs.look();
  for (let turn = 0; turn < 10; turn++) await chats.database.outbox(); // whatever was looked at is through
  expect(await chats.database.outgoing(waiting.id)).toMatchObject({ wokenAt: 0 });
});
