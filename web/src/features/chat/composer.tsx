/** Where a question is written. What is written is kept, whatever happens to the page. */

import { messageOf } from "@/api/errors";
import { Icon } from "@/ui/icons";
import { useEffect, useRef, useState, type ClipboardEvent, type KeyboardEvent } from "react";
import type { Chats, Question } from "./chats";
import { pictureOf } from "./pictures";
import { useDraft } from "./use-draft";

interface Props {
  chats: Chats;
  draftId: string;
  busy: boolean; // an answer is waited for, or comes
  images: boolean; // the model sees pictures
  disabled: boolean;
  onAsk: (question: Question) => Promise<void>; // fails where it could not be kept
  onStop: () => void;
  onEditLast: () => void;
}

export function Composer({ chats, draftId, busy, images: sees, disabled, onAsk, onStop, onEditLast }: Props) {
  const { text, images, setText, setImages, clear } = useDraft(chats.database, draftId);
  const [problem, setProblem] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  const asking = useRef(false);
  const empty = !text.trim() && !images.length;

  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) area.current?.focus();
  }, [draftId]);

  const ask = async () => {
    if (empty || busy || disabled || asking.current) return;
    asking.current = true;
    try {
      await onAsk({ text: text.trim(), images });
      setProblem("");
      clear(); // not before the question is kept
    } catch (error) {
      setProblem(`This could not be kept in this browser: ${messageOf(error)}`);
    } finally {
      asking.current = false;
    }
  };
  const keyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return;
    const types = matchMedia("(pointer: coarse)").matches; // there Enter is a new line
    if (event.key === "Enter" && !event.shiftKey && !types) {
      event.preventDefault();
      void ask();
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
        void ask();
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
