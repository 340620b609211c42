import { useEffect, useState } from "react";

/** The value, once it has stayed the same for a while: somebody who types is not asked about every letter. */
export function useSettled<T>(value: T, afterMs: number): T {
  const [settled, setSettled] = useState(value);
  const told = JSON.stringify(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(JSON.parse(told) as T), afterMs);
    return () => clearTimeout(timer);
  }, [told, afterMs]);
  return settled;
}
