/** Code with its language, a button that copies it, and colours as soon as they are there. */

import { useEffect, useRef, useState } from "react";
import { CopyButton } from "../copy";
import type { Piece } from "./highlighter";

const MAX_CHARS = 20_000; // longer ones hold the page up
const REST_MS = 300; // between two colourings of code that grows

export function Code({ code, language }: { code: string; language: string }) {
  const { lines, coloured } = useColours(code, language);
  return (
    <figure className="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it */}
      <pre tabIndex={0}>
        <code>
          {lines.map((line, i) => (
            <span key={i}>
              {line.map(({ text, style }, j) => (
                <span key={j} className="tone" style={style}>
                  {text}
                </span>
              ))}
              {i < lines.length - 1 && "\n"}
            </span>
          ))}
          {code.slice(coloured)}
        </code>
      </pre>
    </figure>
  );
}

/** What is coloured, and how many characters of the code that is; the rest is shown plain meanwhile. */
function useColours(code: string, language: string): { lines: Piece[][]; coloured: number } {
  const [done, setDone] = useState<{ code: string; lines: Piece[][] }>({ code: "", lines: [] });
  const latest = useRef(code);
  const busy = useRef(false);
  latest.current = code;

  useEffect(() => {
    if (busy.current || !language || code.length > MAX_CHARS || done.code === code) return;
    busy.current = true;
    const timer = setTimeout(
      () => {
        const now = latest.current;
        import("./highlighter")
          .then(({ highlight }) => highlight(now, language))
          .then((lines) => setDone({ code: now, lines: lines ?? [] }))
          .catch(() => setDone({ code: now, lines: [] }))
          .finally(() => {
            busy.current = false;
          });
      },
      done.code ? REST_MS : 0,
    );
    return () => {
      clearTimeout(timer);
      busy.current = false;
    };
    // Not with every piece: the timer looks at the newest code when it fires.
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [language, done.code, code === done.code]);

  const holds = done.lines.length > 0 && code.startsWith(done.code);
  return holds ? { lines: done.lines, coloured: done.code.length } : { lines: [], coloured: 0 };
}
