/** What is being written: kept in the browser as it is written, whatever happens to the page. */

import { useEffect, useRef, useState } from "react";
import type { Question } from "./chats";
import type { Database } from "./database";

const KEEP_MS = 250;

/** `otherwise` is shown where nothing is kept. */
export function useDraft(database: Database, id: string, otherwise = "") {
  const fresh = { id, text: otherwise, images: [] as string[] };
  const [draft, setDraft] = useState(fresh);
  const unkept = useRef<typeof fresh>(undefined);

  useEffect(() => {
    let here = true;
    void database.draft(id).then((kept) => {
      if (!here || unkept.current || (!kept.text && !kept.images.length)) return;
      setDraft({ id, text: kept.text, images: kept.images });
    });
    const keep = () => {
      const { current } = unkept;
      unkept.current = undefined;
      if (current) void database.putDraft(current.id, current);
    };
    const timer = setInterval(keep, KEEP_MS);
    addEventListener("pagehide", keep);
    return () => {
      here = false;
      clearInterval(timer);
      removeEventListener("pagehide", keep);
      keep();
    };
  }, [database, id]);

  const shown = draft.id === id ? draft : fresh;
  const change = (changed: Partial<Question>) => {
    unkept.current = { ...shown, ...changed };
    setDraft(unkept.current);
  };
  return {
    ...shown,
    setText: (text: string) => change({ text }),
    setImages: (images: string[]) => change({ images }),
    clear: () => {
      setDraft({ id, text: "", images: [] });
      unkept.current = undefined;
      void database.dropDraft(id, shown.text);
    },
  };
}
