import { useEffect, useState } from "react";
import { Icon } from "./icons";

/** Puts a text into the clipboard, and says so. */
export function CopyButton({ text, label, wide = false }: { text: string; label: string; wide?: boolean }) {
  const [state, setState] = useState<"" | "Copied" | "Copying failed">("");
  useEffect(() => {
    if (!state) return undefined;
    const timer = setTimeout(() => setState(""), 2000);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = () => {
    navigator.clipboard.writeText(text).then(
      () => setState("Copied"),
      () => setState("Copying failed"),
    );
  };
  return (
    <button type="button" className={wide ? "button" : "quiet small"} onClick={copy} aria-label={state || label}>
      <Icon name={state === "Copied" ? "check" : "copy"} size={16} />
      <span>{state || (wide ? label : "Copy")}</span>
    </button>
  );
}

/** Lines to paste into a terminal. */
export function Command({ text, label = "Copy command" }: { text: string; label?: string }) {
  return (
    <div className="command">
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it */}
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
      <CopyButton text={text} label={label} />
    </div>
  );
}
