import { useEffect, useId, useRef, type ReactNode } from "react";
import { Icon } from "./icons";

/** A dialog of the browser's own: it keeps the focus, and Esc closes it. Mounted means open. */
export function Dialog({
  title,
  children,
  onClose,
  wide = false,
  sure = true,
}: {
  title: string;
  children: ReactNode;
  onClose: () => void;
  wide?: boolean;
  sure?: boolean; // whether Esc and the cross may close it
}) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const opener = document.activeElement;
    const dialog = element.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => {
      dialog?.close();
      // It was taken out of the page before, so the browser did not give the focus back.
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={heading}
      className={wide ? "wide" : undefined}
      onCancel={(event) => {
        event.preventDefault();
        if (sure) onClose();
      }}
      onClose={() => {
        // Whoever presses Esc often enough is not asked by Chromium: it closes at once.
        const dialog = element.current;
        if (!dialog || dialog.open) return;
        if (sure) onClose();
        else dialog.showModal();
      }}
    >
      <header>
        <h2 id={heading}>{title}</h2>
        {sure && (
          <button type="button" className="quiet" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        )}
      </header>
      {children}
    </dialog>
  );
}

/** Asks before something that cannot be taken back. */
export function Confirm({
  title,
  children,
  action,
  onDo,
  onClose,
}: {
  title: string;
  children: ReactNode;
  action: string;
  onDo: () => void;
  onClose: () => void;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <div className="stack">{children}</div>
      <footer>
        <button type="button" className="button" onClick={onClose}>
          Keep
        </button>
        <button
          type="button"
          className="button danger"
          onClick={() => {
            onDo();
            onClose();
          }}
        >
          {action}
        </button>
      </footer>
    </Dialog>
  );
}
