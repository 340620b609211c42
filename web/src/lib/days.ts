/** Days as the reader's calendar has them. */

/** The browser's zone, as `Europe/Berlin`. */
export const zone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** `YYYY-MM-DD` of a moment (milliseconds), in the browser's zone. */
export function dayOf(at: number): string {
  const date = new Date(at);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** So many days, the last the one of this moment. A day may have 23 or 25 hours: the calendar counts, not the clock. */
export function daysBefore(now: number, many: number): string[] {
  const last = new Date(now);
  return Array.from({ length: many }, (_, i) =>
    dayOf(new Date(last.getFullYear(), last.getMonth(), last.getDate() - (many - 1 - i), 12).getTime()),
  );
}

/** From the first of the month on. */
export function monthOf(now: number): string[] {
  return daysBefore(now, new Date(now).getDate());
}

/** `29 Nov`. */
export function shortDay(day: string): string {
  return new Date(`${day}T12:00:00`).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}
