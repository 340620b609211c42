/** What all pages but the chat are made of. */

import { messageOf } from "@/api/errors";
import { useEffect, type ReactNode } from "react";
import { Jar } from "./icons";

export function Page({ title, action, children }: { title: string; action?: ReactNode; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Diogenes`;
  }, [title]);
  return (
    <div className="page">
      <header className="page-head">
        <h1>{title}</h1>
        {action}
      </header>
      {children}
    </div>
  );
}

/** Nothing to show, said calmly. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Jar lamp="asleep" size={56} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Trouble({ error, again }: { error: unknown; again?: () => void }) {
  return (
    <div className="failure" role="alert">
      <p className="failure-message">{messageOf(error)}</p>
      {again && (
        <button type="button" className="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p className="muted loading" role="status">
      Loading {what}…
    </p>
  );
}
