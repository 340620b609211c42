/** Where a question is written. What is written is kept, whatever happens to the page. */

import { Icon } from "@/ui/icons";
import { useEffect, useRef, useState, type ClipboardEvent, type KeyboardEvent } from "react";
import type { Chats, Question } from "./chats";
import { pictureOf } from "./pictures";

const KEEP_MS = 250;

interface Props {
  chats: Chats;
  draftId: string;
  busy: boolean; // an answer is waited for, or comes
  images: boolean; // the model sees pictures
  disabled: boolean;
  onAsk: (question: Question) => void;
  onStop: () => void;
  onEditLast: () => void;
}

export function Composer({ chats, draftId, busy, images: sees, disabled, onAsk, onStop, onEditLast }: Props) {
  const { text, images, setText, setImages, clear } = useDraft(chats, draftId);
  const [problem, setProblem] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  const empty = !text.trim() && !images.length;

  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) area.current?.focus();
  }, [draftId]);

  const ask = () => {
    if (empty || busy || disabled) return;
    onAsk({ text: text.trim(), images });
    clear();
  };
  const keyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return;
    const types = matchMedia("(pointer: coarse)").matches; // there Enter is a new line
    if (event.key === "Enter" && !event.shiftKey && !types) {
      event.preventDefault();
      ask();
    } else if (event.key === "Escape" && busy) onStop();
    else if (event.key === "ArrowUp" && !text) {
      event.preventDefault();
      onEditLast();
    }
  };
  const add = (files: Iterable<File>) => {
    Promise.all(Array.from(files, pictureOf)).then(
      (added) => {
        setProblem("");
        setImages([...images, ...added]);
      },
      (error: Error) => setProblem(error.message),
    );
  };
  const paste = (event: ClipboardEvent) => {
    const files = Array.from(event.clipboardData.files).filter(({ type }) => type.startsWith("image/"));
    if (!sees || !files.length) return;
    event.preventDefault();
    add(files);
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        ask();
      }}
    >
      <Pictures images={images} onRemove={(i) => setImages(images.filter((_, j) => j !== i))} />
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <div className="composer-line">
        {sees && <Attach onFiles={add} />}
        <textarea
          ref={area}
          value={text}
          rows={1}
          placeholder="Ask something"
          aria-label="Message"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={keyDown}
          onPaste={paste}
        />
        {busy ? (
          <button type="button" className="round" aria-label="Stop" onClick={onStop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" className="round primary" aria-label="Send" disabled={empty || disabled}>
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
}

function Attach({ onFiles }: { onFiles: (files: FileList) => void }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" className="quiet" aria-label="Attach pictures" onClick={() => input.current?.click()}>
        <Icon name="image" />
      </button>
      <input
        ref={input}
        type="file"
        accept="image/*"
        multiple
        hidden
        aria-label="Pictures"
        onChange={({ target }) => {
          if (target.files) onFiles(target.files);
          target.value = "";
        }}
      />
    </>
  );
}

function Pictures({ images, onRemove }: { images: string[]; onRemove: (i: number) => void }) {
  if (!images.length) return null;
  return (
    <ul className="pictures">
      {images.map((image, i) => (
        <li key={image.slice(-64)}>
          <img src={image} alt={`Attached, ${i + 1}`} />
          <button type="button" className="quiet" aria-label={`Remove picture ${i + 1}`} onClick={() => onRemove(i)}>
            <Icon name="close" size={16} />
          </button>
        </li>
      ))}
    </ul>
  );
}

function useDraft({ database }: Chats, id: string) {
  const [draft, setDraft] = useState({ id, text: "", images: [] as string[] });
  const unkept = useRef<{ id: string; text: string; images: string[] }>(undefined);

  useEffect(() => {
    let here = true;
    void database.draft(id).then((kept) => {
      if (here && !unkept.current) setDraft({ id, text: kept.text, images: kept.images ?? [] });
    });
    const keep = () => {
      const { current } = unkept;
      unkept.current = undefined;
      if (current) void database.putDraft(current.id, current);
    };
    const timer = setInterval(keep, KEEP_MS);
    addEventListener("pagehide", keep);
    return () => {
      here = false;
      clearInterval(timer);
      removeEventListener("pagehide", keep);
      keep();
    };
  }, [database, id]);

  const shown = draft.id === id ? draft : { id, text: "", images: [] };
  const change = (changed: Partial<Question>) => {
    const next = { ...shown, ...changed };
    unkept.current = next;
    setDraft(next);
  };
  return {
    ...shown,
    setText: (text: string) => change({ text }),
    setImages: (images: string[]) => change({ images }),
    clear: () => {
      change({ text: "", images: [] });
      unkept.current = undefined;
      void database.putDraft(id, { text: "", images: [] });
    },
  };
}
