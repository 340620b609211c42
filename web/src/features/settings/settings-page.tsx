import type { Session } from "@/api/session";
import { dayAndTime } from "@/lib/format";
import { messageOf } from "@/api/errors";
import { Confirm } from "@/ui/dialog";
import { Page } from "@/ui/page";
import { applyTheme, keptTheme, type Theme } from "@/ui/theme";
import { useMutation } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { Ahead } from "./ahead";
import { Allowlist } from "./allowlist";
import "./settings.css";

interface Props {
  session: Session;
  version: string;
  data: ReactNode; // what the chats bring to this page
  onSignOut: (options: { everywhere: boolean }) => Promise<void>;
}

export default function SettingsPage({ session, version, data, onSignOut }: Props) {
  return (
    <Page title="Settings">
      <section className="card">
        <h2>Appearance</h2>
        <ThemeChoice />
      </section>
      <section className="card">
        <h2>Account</h2>
        <Account session={session} onSignOut={onSignOut} />
      </section>
      <section className="card">
        <h2>Waking</h2>
        <Ahead />
      </section>
      {session.owner && (
        <section className="card">
          <h2>Who may sign in</h2>
          <Allowlist />
        </section>
      )}
      <section className="card">
        <h2>Chats</h2>
        {data}
      </section>
      <p className="muted">
        Diogenes {version || "of this clone"} · API at <code>{location.origin}/v1</code>
      </p>
    </Page>
  );
}

const THEMES: Record<Theme, string> = { auto: "As the device", light: "Light", dark: "Dark" };

function ThemeChoice() {
  const [theme, setTheme] = useState(keptTheme);
  return (
    <fieldset className="choice">
      <legend className="visually-hidden">Theme</legend>
      {(Object.keys(THEMES) as Theme[]).map((name) => (
        <label key={name}>
          <input
            type="radio"
            name="theme"
            checked={theme === name}
            onChange={() => {
              applyTheme(name);
              setTheme(name);
            }}
          />
          {THEMES[name]}
        </label>
      ))}
    </fieldset>
  );
}

function Account({ session, onSignOut }: Pick<Props, "session" | "onSignOut">) {
  const [asking, setAsking] = useState(false);
  const out = useMutation({ mutationFn: onSignOut });
  return (
    <>
      <p>
        {session.email}
        {session.owner && <span className="muted"> · owner</span>}
        <br />
        <span className="muted">
          {session.provider ? `Signed in with ${session.provider}` : "Signed in"}
          {session.absolute_expires_at !== null &&
            ` · the session ends by ${dayAndTime(session.absolute_expires_at, Date.now() / 1000)}`}
        </span>
      </p>
      <div className="row">
        <button
          type="button"
          className="button"
          disabled={out.isPending}
          onClick={() => out.mutate({ everywhere: false })}
        >
          Sign out
        </button>
        <button type="button" className="button" disabled={out.isPending} onClick={() => setAsking(true)}>
          Sign out everywhere
        </button>
      </div>
      {out.error && (
        <p className="problem" role="alert">
          {messageOf(out.error)}
        </p>
      )}
      {asking && (
        <Confirm
          title="Sign out everywhere?"
          action="Sign out everywhere"
          onDo={() => out.mutate({ everywhere: true })}
          onClose={() => setAsking(false)}
        >
          <p>Every browser in which {session.email} is signed in has to sign in again. API keys stay as they are.</p>
        </Confirm>
      )}
    </>
  );
}
