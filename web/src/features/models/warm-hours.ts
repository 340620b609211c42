/** Warm hours as one says them, and as the server's cron lines have them. Pure. */

import type { WarmWindow } from "@/api/models";
import { plural } from "@/lib/format";

/** Days of the week by their cron field; any other line is kept as it is. */
export const DAYS = { "*": "every day", "1-5": "Monday to Friday", "0,6": "Saturday and Sunday" } as const;
export type Days = keyof typeof DAYS | "cron";

export interface Window {
  days: Days;
  time: string; // HH:MM
  cron: string; // where `days` is "cron"
  hours: string;
  zone: string;
}

export const MAX_WINDOWS = 8;
const MAX_HOURS = 24;
const TIMES_A_WEEK: Record<keyof typeof DAYS, number> = { "*": 7, "1-5": 5, "0,6": 2 };
const NAMED: Record<string, keyof typeof DAYS> = { "mon-fri": "1-5", "sat,sun": "0,6", "sun,sat": "0,6", "6,0": "0,6" };

export function windowOf({ cron, minutes, zone = "UTC" }: WarmWindow): Window {
  const rest = { cron, hours: String(Math.round((minutes / 60) * 100) / 100), zone };
  const found = /^(\d{1,2}) (\d{1,2}) \* \* (\S+)$/.exec(cron.trim().toLowerCase());
  const [, minute = "", hour = "", field = ""] = found ?? [];
  const days = NAMED[field] ?? (field in DAYS ? (field as keyof typeof DAYS) : undefined);
  if (!days) return { ...rest, days: "cron", time: "09:00" };
  return { ...rest, days, time: `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}` };
}

export function warmWindowOf({ days, time, cron, hours, zone }: Window): WarmWindow {
  const [hour = "0", minute = "0"] = time.split(":");
  const line = days === "cron" ? cron.trim() : `${Number(minute)} ${Number(hour)} * * ${days}`;
  return { cron: line, minutes: Math.round(Number(hours.replace(",", ".")) * 60), zone: zone.trim() };
}

/** What cannot be, if anything. */
export function windowProblem({ days, time, cron, hours, zone }: Window): string | undefined {
  if (days === "cron" && cron.trim().split(/\s+/).length !== 5) return "A cron line has five fields, as in 0 9 * * 1-5";
  if (days !== "cron" && !/^\d\d:\d\d$/.test(time)) return "A time, as in 09:00";
  const long = Number(hours.replace(",", "."));
  if (!(long >= 1 / 60 && long <= MAX_HOURS)) return `Hours, more than 0 and at most ${MAX_HOURS}`;
  return isZone(zone) ? undefined : `${zone || "Nothing"} is no time zone, as in Europe/Berlin`;
}

function isZone(zone: string): boolean {
  try {
    return zone.trim() !== "" && new Intl.DateTimeFormat("en", { timeZone: zone.trim() }).format(0) !== "";
  } catch {
    return false;
  }
}

/** `Monday to Friday from 09:00 for 8 hours (Europe/Berlin)`. */
export function inWords(told: WarmWindow): string {
  const { days, time, cron, hours, zone } = windowOf(told);
  const when = days === "cron" ? `at “${cron}”` : `${DAYS[days]} from ${time}`;
  return `${when} for ${plural(Number(hours), "hour")} (${zone})`;
}

/** Hours a week that they keep a machine on; null where only the server can read a line. Overlaps count twice. */
export function hoursAWeek(windows: readonly Window[]): number | null {
  if (windows.some(({ days }) => days === "cron")) return null;
  return windows.reduce(
    (sum, { days, hours }) => sum + (days === "cron" ? 0 : TIMES_A_WEEK[days] * Number(hours.replace(",", "."))),
    0,
  );
}
