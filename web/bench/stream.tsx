/** An answer of 3,000 pieces as the chat shows it: `stream.py` feeds it, and measures. */

import { LiveAnswers } from "@/features/chat/live";
import { Markdown } from "@/ui/markdown/markdown";
import { useState, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import "@/styles/tokens.css";
import "@/styles/base.css";
import "@/styles/parts.css";

const live = new LiveAnswers();
const ID = "answer";

function Answer() {
  const shown = useSyncExternalStore(
    (listener) => live.on(ID, listener),
    () => live.get(ID),
  );
  const [typed, setTyped] = useState("");
  return (
    <>
      <input aria-label="typed" value={typed} onChange={(event) => setTyped(event.target.value)} />
      <Markdown text={shown?.text ?? ""} growing />
    </>
  );
}

declare global {
  interface Window {
    feed: (pieces: string[], perSecond: number) => Promise<void>;
  }
}

window.feed = (pieces, perSecond) =>
  new Promise((resolve) => {
    const begun = performance.now();
    let text = "";
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.min(pieces.length, Math.floor(((performance.now() - begun) / 1000) * perSecond));
      for (; sent < due; sent++) {
        text += pieces[sent];
        live.update(ID, { text, reasoning: "", tokensPerS: null });
      }
      if (sent < pieces.length) return;
      clearInterval(timer);
      setTimeout(resolve, 500);
    }, 5);
  });

const root = document.getElementById("root");
if (root) createRoot(root).render(<Answer />);
