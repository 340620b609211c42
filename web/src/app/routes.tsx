/** The pages. Each is loaded when it is first shown. */

import type { Config } from "@/api/config";
import { messageOf } from "@/api/errors";
import type { Session } from "@/api/session";
import { signOut } from "@/features/session/watch";
import { Loading } from "@/ui/page";
import { useQueryClient } from "@tanstack/react-query";
import { Component, lazy, Suspense, type ReactNode } from "react";
import { Redirect, Route, Switch, useLocation } from "wouter";

const chat = () => import("@/features/chat/chat-page");
if (/^\/(chat|$)/.test(location.pathname)) void chat(); // while the session is asked for

const ChatPage = lazy(chat);
const ChatData = lazy(() => import("@/features/chat/chat-data"));
const ModelsPage = lazy(() => import("@/features/models/models-page"));
const EditPage = lazy(() => import("@/features/models/edit-page"));
const UsagePage = lazy(() => import("@/features/usage/usage-page"));
const KeysPage = lazy(() => import("@/features/keys/keys-page"));
const EventsPage = lazy(() => import("@/features/events/events-page"));
const SettingsPage = lazy(() => import("@/features/settings/settings-page"));

export function Routes({ session, config }: { session: Session; config: Config }) {
  const [path] = useLocation();
  return (
    <Guard key={path.split("/")[1]}>
      <Suspense fallback={<Loading what="the page" />}>
        <Switch>
          <Route path="/chat/:id?">{({ id }) => <ChatPage id={id} />}</Route>
          <Route path="/models">
            <ModelsPage />
          </Route>
          <Route path="/models/*">{({ "*": name }) => <EditPage key={name} name={decodeURIComponent(name)} />}</Route>
          <Route path="/usage">
            <UsagePage owner={session.owner} />
          </Route>
          <Route path="/keys">
            <KeysPage session={session} />
          </Route>
          <Route path="/events">
            <EventsPage />
          </Route>
          <Route path="/settings">
            <Settings session={session} version={config.version} />
          </Route>
          <Route>
            <Redirect to="/chat" replace />
          </Route>
        </Switch>
      </Suspense>
    </Guard>
  );
}

function Settings({ session, version }: { session: Session; version: string }) {
  const client = useQueryClient();
  return (
    <SettingsPage
      session={session}
      version={version}
      data={
        <Suspense fallback={<Loading what="the chats" />}>
          <ChatData />
        </Suspense>
      }
      onSignOut={(options) => signOut(client, options)}
    />
  );
}

/** A page that breaks does not take the others along. */
class Guard extends Component<{ children: ReactNode }, { error?: unknown }> {
  override state: { error?: unknown } = {};

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (!("error" in this.state)) return this.props.children;
    return (
      <div className="page">
        <div className="failure" role="alert">
          <p className="failure-message">This page could not be shown: {messageOf(this.state.error)}</p>
          <button type="button" className="button" onClick={() => location.reload()}>
            Load it again
          </button>
        </div>
      </div>
    );
  }
}
