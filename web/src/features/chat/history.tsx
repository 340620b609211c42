/** The chats of this browser: found, named, taken away. */

import { dayHeading } from "@/lib/format";
import { Confirm, Dialog } from "@/ui/dialog";
import { Field } from "@/ui/field";
import { Icon } from "@/ui/icons";
import { useDeferredValue, useEffect, useState } from "react";
import { Link, useLocation } from "wouter";
import { toMarkdown } from "./archive";
import type { Chats } from "./chats";
import type { Conversation } from "./conversation";
import { save } from "@/ui/download";
import { useConversations } from "./use-stored";

export function History({ chats, current, onChosen }: { chats: Chats; current: string; onChosen: () => void }) {
  const conversations = useConversations(chats);
  const [query, setQuery] = useState("");
  const found = useFound(chats, conversations, useDeferredValue(query.trim().toLowerCase()));
  const [editing, setEditing] = useState<{ kind: "rename" | "remove"; conversation: Conversation }>();
  const close = () => setEditing(undefined);
  return (
    <nav className="history" aria-label="Chats">
      <Link href="/chat" className="button" onClick={onChosen}>
        <Icon name="plus" size={16} /> New chat
      </Link>
      <label className="search">
        <Icon name="search" size={16} />
        <input
          type="search"
          placeholder="Search chats"
          aria-label="Search chats"
          value={query}
          onChange={(event) => setQuery(event.target.value)}
        />
      </label>
      {found?.length === 0 && (
        <p className="muted">{query ? `Nothing holds “${query}”.` : "No chats yet. They stay in this browser."}</p>
      )}
      {byDay(found ?? []).map(([day, among]) => (
        <section key={day}>
          <h2>{day}</h2>
          <ul>
            {among.map((conversation) => (
              <Entry
                key={conversation.id}
                chats={chats}
                conversation={conversation}
                here={conversation.id === current}
                onChosen={onChosen}
                onEdit={(kind) => setEditing({ kind, conversation })}
              />
            ))}
          </ul>
        </section>
      ))}
      {editing?.kind === "rename" && <Rename chats={chats} conversation={editing.conversation} onClose={close} />}
      {editing?.kind === "remove" && <Remove chats={chats} conversation={editing.conversation} onClose={close} />}
    </nav>
  );
}

function Entry({
  chats,
  conversation,
  here,
  onChosen,
  onEdit,
}: {
  chats: Chats;
  conversation: Conversation;
  here: boolean;
  onChosen: () => void;
  onEdit: (kind: "rename" | "remove") => void;
}) {
  const exported = async () => {
    const messages = await chats.database.messages(conversation.id);
    save(`${conversation.title}.md`, toMarkdown(conversation, messages), "text/markdown");
  };
  return (
    <li className="entry">
      <Link href={`/chat/${conversation.id}`} aria-current={here ? "page" : undefined} onClick={onChosen}>
        {conversation.title}
      </Link>
      <details className="menu" name="chat-menu">
        <summary aria-label={`More about ${conversation.title}`}>⋯</summary>
        <div className="menu-items">
          <button type="button" onClick={() => onEdit("rename")}>
            <Icon name="edit" size={16} /> Rename
          </button>
          <button type="button" onClick={() => void exported()}>
            <Icon name="download" size={16} /> Markdown
          </button>
          <button type="button" onClick={() => onEdit("remove")}>
            <Icon name="trash" size={16} /> Delete
          </button>
        </div>
      </details>
    </li>
  );
}

function Rename({ chats, conversation, onClose }: { chats: Chats; conversation: Conversation; onClose: () => void }) {
  const [title, setTitle] = useState(conversation.title);
  return (
    <Dialog title="Rename" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!title.trim()) return;
          void chats.database.putConversation({ ...conversation, title: title.trim(), titled: true });
          onClose();
        }}
      >
        <Field label="Name">
          {(ids) => <input {...ids} value={title} maxLength={120} onChange={(event) => setTitle(event.target.value)} />}
        </Field>
        <footer>
          <button type="submit" className="button primary" disabled={!title.trim()}>
            Rename
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function Remove({ chats, conversation, onClose }: { chats: Chats; conversation: Conversation; onClose: () => void }) {
  const [location, navigate] = useLocation();
  const remove = () => {
    void chats.database.remove(conversation.id);
    if (location === `/chat/${conversation.id}`) navigate("/chat");
  };
  return (
    <Confirm title="Delete this chat?" action="Delete" onDo={remove} onClose={onClose}>
      <p>“{conversation.title}” is in this browser only. It cannot be brought back.</p>
    </Confirm>
  );
}

/** By title at once, by what was said as soon as that was read. */
function useFound(chats: Chats, conversations: Conversation[] | undefined, query: string): Conversation[] | undefined {
  const [said, setSaid] = useState<{ query: string; ids: Set<string> }>();
  useEffect(() => {
    if (!query) return undefined;
    let here = true;
    void chats.database.allMessages().then((messages) => {
      if (!here) return;
      const holding = messages.filter(({ text }) => text.toLowerCase().includes(query));
      setSaid({ query, ids: new Set(holding.map(({ conversationId }) => conversationId)) });
    });
    return () => {
      here = false;
    };
  }, [chats, query]);
  if (!query) return conversations;
  const ids = said?.query === query ? said.ids : undefined;
  return conversations?.filter(({ id, title }) => title.toLowerCase().includes(query) || ids?.has(id));
}

function byDay(conversations: readonly Conversation[]): [string, Conversation[]][] {
  const now = Date.now() / 1000;
  const days = new Map<string, Conversation[]>();
  for (const conversation of conversations) {
    const day = dayHeading(conversation.updatedAt, now);
    days.set(day, [...(days.get(day) ?? []), conversation]);
  }
  return [...days];
}
