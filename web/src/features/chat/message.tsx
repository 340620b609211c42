/** One question or answer, with what can be done with it. */

import { messageOf } from "@/api/errors";
import { usd, count } from "@/lib/format";
import { CopyButton } from "@/ui/copy";
import { FailurePanel } from "@/ui/failure";
import { Icon } from "@/ui/icons";
import { Markdown } from "@/ui/markdown/markdown";
import { memo, useEffect, useRef, useState } from "react";
import type { Chats } from "./chats";
import type { Message } from "./conversation";
import { editOf } from "./database";
import { useDraft } from "./use-draft";
import { useLive } from "./use-stored";
import { Waiting } from "./waiting";

export interface Actions {
  regenerate: (answer: Message) => void;
  edit: (question: Message, text: string) => Promise<void>; // fails where it could not be kept
  show: (message: Message) => void; // of several that stand in one place
}

interface Props {
  chats: Chats;
  message: Message;
  siblings: readonly Message[];
  actions: Actions;
  editing: boolean;
  onEditing: (on: boolean) => void;
}

export const MessageView = memo(function MessageView(props: Props) {
  return props.message.role === "user" ? <Asked {...props} /> : <Answered {...props} />;
});

function Asked({ chats, message, siblings, actions, editing, onEditing }: Props) {
  return (
    <article className="message asked" aria-label="You">
      {message.images.length > 0 && (
        <ul className="pictures">
          {message.images.map((image, i) => (
            <li key={image.slice(-64)}>
              <img src={image} alt={`Attached, ${i + 1}`} />
            </li>
          ))}
        </ul>
      )}
      {editing ? (
        <Editor
          chats={chats}
          message={message}
          onDone={(text) => actions.edit(message, text)}
          onClose={() => onEditing(false)}
        />
      ) : (
        message.text && <p className="asked-text">{message.text}</p>
      )}
      {!editing && (
        <div className="actions">
          <Branches message={message} siblings={siblings} onShow={actions.show} />
          <button
            type="button"
            className="quiet small"
            aria-label="Edit and send again"
            onClick={() => onEditing(true)}
          >
            <Icon name="edit" size={16} />
          </button>
          <CopyButton text={message.text} label="Copy question" />
        </div>
      )}
    </article>
  );
}

interface EditorProps {
  chats: Chats;
  message: Message;
  onDone: (text: string) => Promise<void>;
  onClose: () => void;
}

function Editor({ chats, message, onDone, onClose }: EditorProps) {
  const { text, setText, clear } = useDraft(chats.database, editOf(message.id), message.text);
  const [problem, setProblem] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(area.current.value.length, area.current.value.length);
  }, []);
  const close = () => {
    clear();
    onClose();
  };
  const done = () => {
    if (text.trim()) onDone(text.trim()).then(close, (error: unknown) => setProblem(messageOf(error)));
  };
  return (
    <form
      className="editor"
      onSubmit={(event) => {
        event.preventDefault();
        done();
      }}
    >
      <textarea
        ref={area}
        aria-label="Edit message"
        value={text}
        rows={3}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") close();
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) done();
        }}
      />
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <div className="row">
        <button type="submit" className="button primary" disabled={!text.trim()}>
          Send again
        </button>
        <button type="button" className="button" onClick={close}>
          Cancel
        </button>
      </div>
    </form>
  );
}

function Answered({ chats, message, siblings, actions }: Props) {
  const live = useLive(chats, message.id);
  const coming = message.status === "streaming";
  const settled = !coming && message.status !== "waiting";
  const { text, reasoning } = live ?? message;
  return (
    <article className="message answered" aria-label={message.model ?? "Answer"} aria-busy={coming}>
      {reasoning && <Reasoning text={reasoning} thinking={coming && !text} seconds={message.reasoningS} />}
      {text && <Markdown text={text} growing={coming} />}
      {message.status === "waiting" && <Waiting chats={chats} message={message} />}
      {coming && !text && !reasoning && <p className="muted loading">Asking {message.model}…</p>}
      {coming && <Speed tokensPerS={live?.tokensPerS} />}
      <Outcome message={message} />
      {settled && <AnswerActions message={message} siblings={siblings} actions={actions} />}
    </article>
  );
}

/** What there is to say of how it ended, if it did not end well. */
function Outcome({ message }: { message: Message }) {
  switch (message.status) {
    case "failed":
      return message.error ? <FailurePanel failure={{ fix: "", permanent: false, ...message.error }} /> : null;
    case "stopped":
      return <p className="muted">{stoppedWord(message)}</p>;
    case "done":
      return message.finish === "length" ? <p className="muted">Cut at the limit of tokens.</p> : null;
    default:
      return null;
  }
}

function Speed({ tokensPerS }: { tokensPerS: number | null | undefined }) {
  return tokensPerS ? <p className="figures numbers">{Math.round(tokensPerS)} tok/s</p> : null;
}

function AnswerActions({ message, siblings, actions }: Pick<Props, "message" | "siblings" | "actions">) {
  const done = message.status === "done";
  return (
    <div className="actions">
      <Branches message={message} siblings={siblings} onShow={actions.show} />
      {message.text && <CopyButton text={message.text} label="Copy answer" />}
      <button
        type="button"
        className="quiet small"
        aria-label={done ? "Answer again" : "Send again"}
        onClick={() => actions.regenerate(message)}
      >
        <Icon name="again" size={16} />
        {!done && <span>Send again</span>}
      </button>
      <Figures message={message} />
    </div>
  );
}

function stoppedWord({ finish, text, reasoning }: Message): string {
  if (finish === "interrupted") return "The page was closed while this came.";
  return text || reasoning ? "Stopped." : "Not sent.";
}

function Reasoning({ text, thinking, seconds }: { text: string; thinking: boolean; seconds: number | undefined }) {
  const took =
    seconds && seconds >= 0.1 ? `Thought for ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : "Thought";
  return (
    <details className="reasoning">
      <summary>{thinking ? "Thinking…" : took}</summary>
      <Markdown text={text} growing={thinking} />
    </details>
  );
}

/** `42 tok/s · first after 0.8 s · 512 tokens · ≈ $0.0012`. */
function Figures({ message: { tokensPerS, firstTokenS, usage, usd: cost } }: { message: Message }) {
  const parts = [
    tokensPerS ? `${tokensPerS < 10 ? tokensPerS.toFixed(1) : Math.round(tokensPerS)} tok/s` : "",
    firstTokenS ? `first after ${firstTokenS.toFixed(firstTokenS < 10 ? 1 : 0)} s` : "",
    usage ? `${count(usage.prompt_tokens)} + ${count(usage.completion_tokens)} tokens` : "",
    cost ? `≈\u00a0${usd(cost)}` : "",
  ].filter(Boolean);
  if (!parts.length) return null;
  return (
    <p className="figures numbers" title="An estimate: the time that it took, at the hour’s price of the machine">
      {parts.join(" · ")}
    </p>
  );
}

function Branches({
  message,
  siblings,
  onShow,
}: {
  message: Message;
  siblings: readonly Message[];
  onShow: (message: Message) => void;
}) {
  if (siblings.length < 2) return null;
  const at = siblings.findIndex(({ id }) => id === message.id);
  const [before, after] = [siblings[at - 1], siblings[at + 1]];
  return (
    <div className="branches" role="group" aria-label="Versions">
      <button
        type="button"
        className="quiet small"
        aria-label="Earlier version"
        disabled={!before}
        onClick={() => before && onShow(before)}
      >
        <Icon name="left" size={16} />
      </button>
      <span className="numbers">
        {at + 1}/{siblings.length}
      </span>
      <button
        type="button"
        className="quiet small"
        aria-label="Later version"
        disabled={!after}
        onClick={() => after && onShow(after)}
      >
        <Icon name="right" size={16} />
      </button>
    </div>
  );
}
