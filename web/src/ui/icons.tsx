/** Our own few pictures: strokes in the colour of the text. */

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  models: "M4 7l8-4 8 4v10l-8 4-8-4zM4 7l8 4 8-4M12 11v10",
  usage: "M4 20V10M10 20V4M16 20v-7M22 20H2",
  keys: "M14.5 9.5a4.5 4.5 0 1 1-2.6-4.1M12 11l8 8M17 16l2-2",
  events: "M3 12h4l3-8 4 16 3-8h4",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  plus: "M12 5v14M5 12h14",
  send: "M12 20V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12l5 5L20 7",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
  left: "M15 6l-6 6 6 6",
  right: "M9 6l6 6-6 6",
  down: "M6 9l6 6 6-6",
  menu: "M4 6h16M4 12h16M4 18h16",
  close: "M6 6l12 12M18 6L6 18",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  sliders: "M4 8h10M18 8h2M4 16h2M10 16h10M14 6v4M6 14v4",
  search: "M11 18a7 7 0 1 1 0-14 7 7 0 0 1 0 14zM16 16l4 4",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  power: "M12 4v8M7.5 7a7 7 0 1 0 9 0",
  external: "M14 5h5v5M19 5l-8 8M10 6H5v13h13v-5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export type Lamp = "asleep" | "waking" | "ready";

/** The jar with its lamp: dark, pulsing or lit. */
export function Jar({ lamp, size = 28 }: { lamp: Lamp; size?: number }) {
  return (
    <svg className="jar" data-lamp={lamp} width={size} height={size} viewBox="0 0 40 40" aria-hidden="true">
      <path d="M13 5h14M15 5v4c-6 3-9 8-9 14 0 7 5 12 14 12s14-5 14-12c0-6-3-11-9-14V5" />
      <circle cx="20" cy="23" r="4.5" />
    </svg>
  );
}
