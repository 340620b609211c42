/** All chats as one file, there and back; and away with them. */

import { messageOf } from "@/api/errors";
import { plural } from "@/lib/format";
import { Confirm } from "@/ui/dialog";
import { save } from "@/ui/download";
import { useQueryClient } from "@tanstack/react-query";
import { use, useRef, useState } from "react";
import { fromJson, toJson } from "./archive";
import { chatsOf } from "./chats";

export default function ChatData() {
  const { database } = use(chatsOf(useQueryClient()));
  const [said, setSaid] = useState("");
  const [asking, setAsking] = useState(false);
  const input = useRef<HTMLInputElement>(null);

  const exported = async () => {
    const [conversations, messages] = [await database.conversations(), await database.allMessages()];
    save(`diogenes-chats-${new Date().toISOString().slice(0, 10)}.json`, toJson({ conversations, messages }));
  };
  const imported = async (file: File) => {
    try {
      const { conversations, messages } = fromJson(await file.text());
      const came = await database.add(conversations, messages);
      const known = conversations.length - came;
      setSaid(`Imported ${plural(came, "chat")}${known ? `; ${plural(known, "chat")} already here` : ""}.`);
    } catch (error) {
      setSaid(messageOf(error));
    }
  };

  return (
    <>
      <p className="muted">Chats stay in this browser; the server keeps none.</p>
      <div className="row">
        <button type="button" className="button" onClick={() => void exported()}>
          Export
        </button>
        <button type="button" className="button" onClick={() => input.current?.click()}>
          Import
        </button>
        <button type="button" className="button danger" onClick={() => setAsking(true)}>
          Delete all chats
        </button>
      </div>
      <input
        ref={input}
        type="file"
        accept="application/json,.json"
        hidden
        aria-label="File of chats"
        onChange={({ target }) => {
          if (target.files?.[0]) void imported(target.files[0]);
          target.value = "";
        }}
      />
      <p className="said" role="status">
        {said}
      </p>
      {asking && (
        <Confirm
          title="Delete all chats?"
          action="Delete all"
          onDo={() => void database.clear().then(() => setSaid("All chats are deleted."))}
          onClose={() => setAsking(false)}
        >
          <p>They are in this browser only. Without an export they cannot be brought back.</p>
        </Confirm>
      )}
    </>
  );
}
