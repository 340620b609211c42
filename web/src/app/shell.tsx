/** What stands around every page: where one can go, and what runs now. */

import type { Config } from "@/api/config";
import { ApiError } from "@/api/errors";
import type { Session } from "@/api/session";
import { SessionEnded } from "@/features/session/ended";
import { usd } from "@/lib/format";
import { Icon, Jar, type IconName } from "@/ui/icons";
import { summary } from "@/ui/state";
import { useHourly, useModels } from "@/ui/use-now";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore, type ReactNode } from "react";
import { Link, useLocation } from "wouter";

const PLACES: readonly { path: string; name: string; icon: IconName }[] = [
  { path: "/chat", name: "Chat", icon: "chat" },
  { path: "/models", name: "Models", icon: "models" },
  { path: "/usage", name: "Usage", icon: "usage" },
  { path: "/keys", name: "Keys", icon: "keys" },
  { path: "/events", name: "Events", icon: "events" },
];

interface Props {
  session: Session;
  ended: boolean;
  config: Config;
  children: ReactNode;
}

export function Shell({ session, ended, config, children }: Props) {
  const { data: models, error } = useModels();
  const { word, lamp } = summary(models);
  const [path] = useLocation();
  useOutbox();
  useNewChatKey();
  const offline = useOffline() || (error instanceof ApiError && error.offline);
  const { all: hourly } = useHourly();
  const now = `${word}${hourly === undefined ? "" : ` · ${usd(hourly)}/h`}`;
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <header className="side">
        <Link href="/chat" className="brand" aria-label="Diogenes">
          <Jar lamp={lamp} />
          <span>Diogenes</span>
        </Link>
        <nav aria-label="Pages">
          {PLACES.map(({ path: to, name, icon }) => (
            <Link key={to} href={to} aria-current={path.startsWith(to) ? "page" : undefined}>
              <Icon name={icon} />
              <span>{name}</span>
            </Link>
          ))}
        </nav>
        <Link href="/settings" className="account" aria-current={path === "/settings" ? "page" : undefined}>
          <Icon name="settings" />
          <span className="account-text">
            <span className="numbers">{now}</span>
            <span className="muted" title={session.email}>
              {session.email}
            </span>
          </span>
          <span className="visually-hidden">Settings</span>
        </Link>
      </header>
      <main id="main" tabIndex={-1}>
        {ended && <SessionEnded config={config} />}
        {!ended && offline && (
          <div className="banner" role="status">
            <p>You seem to be offline. What you write is kept, and sent when you are back.</p>
          </div>
        )}
        {children}
      </main>
    </div>
  );
}

/** Does the browser believe to be offline? It may be wrong, so requests are made all the same. */
function useOffline(): boolean {
  return useSyncExternalStore(onNetwork, () => !navigator.onLine);
}

function onNetwork(changed: () => void): () => void {
  window.addEventListener("offline", changed);
  window.addEventListener("online", changed);
  return () => {
    window.removeEventListener("offline", changed);
    window.removeEventListener("online", changed);
  };
}

/** A question that waits is sent from whichever page is open. */
function useOutbox(): void {
  const client = useQueryClient();
  useEffect(() => {
    const timer = setTimeout(() => {
      void import("@/features/chat/chats").then(({ chatsOf }) => chatsOf(client)).catch(() => undefined);
    }, 1000);
    return () => clearTimeout(timer);
  }, [client]);
}

/** Ctrl or ⌘ with K, wherever one is. */
function useNewChatKey(): void {
  const [, navigate] = useLocation();
  useEffect(() => {
    const pressed = (event: globalThis.KeyboardEvent) => {
      if (event.key !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      navigate("/chat");
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [navigate]);
}
