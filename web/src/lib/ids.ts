/** A name that nobody else has; sorts by time. */
export function newId(now: number = Date.now()): string {
  const random = crypto.getRandomValues(new Uint8Array(8));
  const tail = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${now.toString(36).padStart(9, "0")}-${tail}`;
}
