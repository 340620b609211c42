/** The engine's last lines while it starts, or from before it failed. */

import { getModel } from "@/api/models";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

const EVERY_MS = 2000;

export function LogTail({ name }: { name: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="log" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Log</summary>
      {open && <Lines name={name} />}
    </details>
  );
}

function Lines({ name }: { name: string }) {
  const [filter, setFilter] = useState("");
  const { data } = useQuery({
    queryKey: ["model", name],
    queryFn: ({ signal }) => getModel(name, signal),
    refetchInterval: EVERY_MS,
  });
  const lines = data?.instances.findLast(({ log_tail }) => log_tail?.length)?.log_tail ?? data?.failure_log ?? [];
  const shown = lines.filter((line) => line.toLowerCase().includes(filter.toLowerCase()));
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown.length]);
  return (
    <div className="stack">
      <input
        type="search"
        placeholder="Filter"
        aria-label="Filter the log"
        value={filter}
        onChange={(event) => setFilter(event.target.value)}
      />
      <pre
        ref={box}
        className="log-lines"
        // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it
        tabIndex={0}
        role="log"
        aria-label={`Log of ${name}`}
        aria-live="off"
        onScroll={({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
          atEnd.current = scrollHeight - scrollTop - clientHeight < 24;
        }}
      >
        {shown.length ? shown.join("\n") : lines.length ? "No line holds that." : "Nothing was logged yet."}
      </pre>
    </div>
  );
}
