/** The chat: history, thread, composer. */

import { seesImages, type Model } from "@/api/models";
import { progressOf, shortProgress } from "@/api/start";
import { newId } from "@/lib/ids";
import { picked } from "@/ui/ahead";
import { Icon } from "@/ui/icons";
import { Empty } from "@/ui/page";
import { StateMark, stateWord } from "@/ui/state";
import { useModels } from "@/ui/use-now";
import { useQueryClient } from "@tanstack/react-query";
import { use, useCallback, useEffect, useMemo, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { chatsOf, type Chats, type Question } from "./chats";
import { choose, pathOf, siblingsOf, type Conversation, type Message } from "./conversation";
import { Composer } from "./composer";
import { NEW } from "./database";
import { History } from "./history";
import { MessageView, type Actions } from "./message";
import { ParamsDialog } from "./params-dialog";
import { useFollow } from "./scroll";
import { useThread } from "./use-stored";
import "./chat.css";

const LAST_MODEL = "diogenes.model";

export default function ChatPage({ id }: { id: string | undefined }) {
  const chats = use(chatsOf(useQueryClient()));
  const [open, setOpen] = useState(false); // the history, where there is no room for it
  return (
    <div className="chat">
      <h1 className="visually-hidden">Chat</h1>
      <div className="chat-side" data-open={open}>
        <History chats={chats} current={id ?? ""} onChosen={() => setOpen(false)} />
      </div>
      {open && <button type="button" className="scrim" aria-label="Close the list" onClick={() => setOpen(false)} />}
      <Conversing key={id ?? "new"} chats={chats} id={id} onList={() => setOpen(true)} />
    </div>
  );
}

function Conversing({ chats, id, onList }: { chats: Chats; id: string | undefined; onList: () => void }) {
  const { data: models } = useModels();
  const thread = useThread(chats, id);
  const [fresh, setFresh] = useFresh(models);
  const conversation = thread?.conversation ?? (id ? undefined : fresh);
  const [, navigate] = useLocation();
  const [configuring, setConfiguring] = useState(false);

  const change = useCallback(
    (changed: Conversation) => {
      if (id) void chats.database.putConversation(changed);
      else setFresh(changed);
    },
    [chats, id, setFresh],
  );
  const ask = async (parentId: string | null, question: Question) => {
    if (!conversation) return;
    const asked = await chats.ask(conversation, parentId, question);
    if (!id) navigate(`/chat/${asked.id}`, { replace: true });
  };

  if (!conversation || !thread || models?.length === 0) {
    return <NoThread configured={models?.length !== 0} gone={Boolean(thread && id)} />;
  }
  const model = models?.find(({ name }) => name === conversation.model);
  return (
    <section className="chat-main" aria-label="Chat">
      <header className="chat-head">
        <button type="button" className="quiet only-narrow" aria-label="Chats" onClick={onList}>
          <Icon name="menu" />
        </button>
        <ModelPicker
          models={models ?? []}
          value={conversation.model}
          onChange={(name) => {
            localStorage.setItem(LAST_MODEL, name);
            picked(models?.find((each) => each.name === name));
            change({ ...conversation, model: name });
          }}
        />
        {model && <StateMark state={model.status} />}
        <button type="button" className="quiet" aria-label="Settings of this chat" onClick={() => setConfiguring(true)}>
          <Icon name="sliders" />
        </button>
      </header>
      <Thread
        chats={chats}
        conversation={conversation}
        messages={thread.messages}
        model={model}
        known={Boolean(models)}
        onAsk={ask}
        onChange={change}
      />
      {configuring && (
        <ParamsDialog
          conversation={conversation}
          onSave={(changed) => change({ ...conversation, ...changed })}
          onClose={() => setConfiguring(false)}
        />
      )}
    </section>
  );
}

function Thread({
  chats,
  conversation,
  messages,
  model,
  known,
  onAsk,
  onChange,
}: {
  chats: Chats;
  conversation: Conversation;
  messages: Message[];
  model: Model | undefined;
  known: boolean; // which models there are, and how they are
  onAsk: (parentId: string | null, question: Question) => Promise<void>;
  onChange: (changed: Conversation) => void;
}) {
  const path = useMemo(() => pathOf(messages, conversation.chosen), [messages, conversation.chosen]);
  const { scroller, content, away, toEnd } = useFollow();
  const [editing, setEditing] = useState("");
  const last = path.at(-1);
  const busy = last?.status === "waiting" || last?.status === "streaming";
  useTitle(conversation, last, model);

  const actions = useMemo<Actions>(
    () => ({
      regenerate: (answer) => void chats.regenerate(conversation, answer),
      edit: (question, text) => onAsk(question.parentId, { text, images: question.images }),
      show: (message) => onChange(choose(conversation, message)),
    }),
    [chats, conversation, onAsk, onChange],
  );

  return (
    <>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it */}
      <div className="thread" ref={scroller} tabIndex={0} role="region" aria-label="Messages">
        <div className="thread-content" ref={content}>
          {path.length === 0 && known && <Greeting model={model} />}
          {path.map((message) => (
            <MessageView
              key={message.id}
              chats={chats}
              message={message}
              siblings={siblingsOf(messages, message)}
              actions={actions}
              editing={editing === message.id}
              onEditing={(on) => setEditing(on ? message.id : "")}
            />
          ))}
          <p className="visually-hidden" role="status">
            {last?.role === "assistant" && last.status === "done" ? "The answer is complete." : ""}
          </p>
        </div>
      </div>
      <div className="chat-foot">
        {away && (
          <button type="button" className="button to-end" onClick={toEnd}>
            <Icon name="down" size={16} /> Newest
          </button>
        )}
        <Composer
          chats={chats}
          draftId={messages.length ? conversation.id : NEW}
          busy={busy}
          images={model ? seesImages(model) : false}
          disabled={!conversation.model}
          onAsk={async (question) => {
            await onAsk(last?.id ?? null, question);
            toEnd();
          }}
          onStop={() => last && void chats.stop(last.id)}
          onEditLast={() => setEditing(path.findLast(({ role }) => role === "user")?.id ?? "")}
        />
      </div>
    </>
  );
}

function Greeting({ model }: { model: Model | undefined }) {
  const asleep = model?.status === "cold";
  return (
    <Empty title={asleep ? "The jar is quiet." : "What would you like to know?"}>
      <p className="muted">
        {asleep
          ? "The model sleeps and costs nothing. Ask, and it is woken; your question waits for it."
          : model?.status === "ready"
            ? `${model.name} is ready.`
            : ""}
      </p>
    </Empty>
  );
}

function ModelPicker({
  models,
  value,
  onChange,
}: {
  models: readonly Model[];
  value: string;
  onChange: (name: string) => void;
}) {
  const known = models.some(({ name }) => name === value);
  return (
    <select
      className="model-picker"
      aria-label="Model"
      value={value}
      onChange={(event) => onChange(event.target.value)}
    >
      {!known && <option value={value}>{value ? `${value} (not configured)` : "Choose a model"}</option>}
      {models.map(({ name, status }) => (
        <option key={name} value={name}>
          {name} · {stateWord(status)}
        </option>
      ))}
    </select>
  );
}

function NoThread({ configured, gone }: { configured: boolean; gone: boolean }) {
  useEffect(() => {
    document.title = "Chat · Diogenes"; // not that of the chat that was here before, which may be another person's
  }, []);
  return (
    <div className="chat-main">
      {!configured && (
        <Empty title="No model is configured yet.">
          <p>
            <Link href="/models">Models</Link> shows how to add the first one.
          </p>
        </Empty>
      )}
      {configured && gone && (
        <Empty title="This chat is not in this browser.">
          <p className="muted">
            It was deleted, or is in another browser or another person’s. An export can be imported under{" "}
            <Link href="/settings">Settings</Link>.
          </p>
        </Empty>
      )}
    </div>
  );
}

/** The chat that is not kept yet, with the model that was last used, else one that is awake. */
function useFresh(models: readonly Model[] | undefined): [Conversation, (changed: Conversation) => void] {
  const wanted = new URLSearchParams(useSearch()).get("model") ?? "";
  const [fresh, setFresh] = useState<Conversation>(() => {
    const now = Date.now() / 1000;
    const kept = { id: newId(), title: "New chat", titled: false, createdAt: now, updatedAt: now };
    return { ...kept, model: wanted, system: "", params: {}, chosen: {} };
  });
  const model = fresh.model || defaultModel(models);
  return [model === fresh.model ? fresh : { ...fresh, model }, setFresh];
}

function defaultModel(models: readonly Model[] | undefined): string {
  const last = localStorage.getItem(LAST_MODEL);
  const names = models?.map(({ name }) => name) ?? [];
  if (last && names.includes(last)) return last;
  return models?.find(({ status }) => status === "ready")?.name ?? names[0] ?? "";
}

function useTitle({ title }: Conversation, last: Message | undefined, model: Model | undefined): void {
  const progress = last?.status === "waiting" && model ? progressOf(model, Date.now() / 1000) : null;
  const told = progress ? `${shortProgress(progress)} Diogenes` : `${title} · Diogenes`;
  useEffect(() => {
    document.title = told;
  }, [told]);
}
