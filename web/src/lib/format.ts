/** Numbers, times and money in words. Pure: whoever calls says what time it is. */

export type Seconds = number;

/** `4:10`, `1:02:03`. */
export function clock(seconds: Seconds): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const padded = String(s).padStart(2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${padded}` : `${m}:${padded}`;
}

/** `40 s`, `1½ min`, `6 min`, `2 h`: as one would say it, not as a clock. */
export function about(seconds: Seconds): string {
  if (seconds < 55) return `${Math.max(5, Math.round(seconds / 5) * 5)} s`;
  const halves = Math.round(seconds / 30);
  if (halves < 10) {
    const whole = Math.floor(halves / 2);
    return `${whole || ""}${halves % 2 ? "½" : ""} min`;
  }
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(seconds < 36000 && Math.round(seconds / 360) % 10 ? 1 : 0)} h`;
}

/** Dollars with as many digits as they need: `$0.0021`, `$0.07`, `$14.20`. */
export function usd(value: number): string {
  const size = Math.abs(value);
  const digits = size === 0 || size >= 0.1 ? 2 : size >= 0.01 ? 3 : size >= 0.0001 ? 4 : 6;
  const text = size.toFixed(digits);
  const trimmed = digits > 2 ? text.replace(/(\.\d\d\d*?)0+$/, "$1") : text;
  return `${value < 0 ? "−" : ""}$${trimmed.replace(/\B(?=(\d{3})+(?=\.))/g, ",")}`;
}

export const microUsd = (value: number): string => usd(value / 1e6);

/** `812`, `3.1k`, `1.2M`. */
export function count(value: number): string {
  if (value < 1000) return String(Math.round(value));
  const [divisor, unit] = value < 999_500 ? [1e3, "k"] : value < 999_500_000 ? [1e6, "M"] : [1e9, "G"];
  const scaled = value / (divisor as number);
  return `${scaled < 100 ? scaled.toFixed(1).replace(/\.0$/, "") : Math.round(scaled)}${unit}`;
}

/** `32.8 GB`, decimal as the hub says it. */
export function bytes(value: number): string {
  if (value < 1e6) return `${Math.round(value / 1e3)} kB`;
  return value < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toFixed(1)} GB`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

const HOUR_MINUTE: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };

/** `14:07`, in the browser's zone. */
export const timeOfDay = (at: Seconds): string => new Date(at * 1000).toLocaleTimeString("en-GB", HOUR_MINUTE);

/** `29 Nov, 14:07`; the year only where it is another. */
export function dayAndTime(at: Seconds, now: Seconds): string {
  const date = new Date(at * 1000);
  const sameYear = date.getFullYear() === new Date(now * 1000).getFullYear();
  const year: Intl.DateTimeFormatOptions = sameYear ? {} : { year: "numeric" };
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", ...HOUR_MINUTE, ...year });
}

/** `just now`, `5 min ago`, `3 h ago`, then the date. */
export function ago(at: Seconds, now: Seconds): string {
  const age = now - at;
  if (age < 45) return "just now";
  if (age < 3600) return `${Math.max(1, Math.round(age / 60))} min ago`;
  if (age < 24 * 3600) return `${Math.round(age / 3600)} h ago`;
  return dayAndTime(at, now);
}

/** `Sunday`, `2 Nov`: the heading that a day gets in a list. */
export function dayHeading(at: Seconds, now: Seconds): string {
  const days = Math.floor(startOfDay(now) / 86400) - Math.floor(startOfDay(at) / 86400);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  const date = new Date(at * 1000);
  if (days < 7) return date.toLocaleDateString("en-GB", { weekday: "long" });
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

function startOfDay(at: Seconds): Seconds {
  const date = new Date(at * 1000);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 1000;
}
