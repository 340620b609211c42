/** Follow an answer as it grows, unless the reader went elsewhere. */

import { useCallback, useEffect, useRef, useState } from "react";

const AT_END_PX = 32;

/** Who scrolled is told by what moved: content that grows moves nothing, we move down only, a reader may move up. */
export function useFollow() {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const top = useRef(0);
  const [away, setAway] = useState(false);

  const toEnd = useCallback(() => {
    const element = scroller.current;
    if (!element) return;
    following.current = true;
    element.scrollTop = element.scrollHeight;
    top.current = element.scrollTop;
    setAway(false);
  }, []);

  useEffect(() => {
    const [outer, inner] = [scroller.current, content.current];
    if (!outer || !inner) return undefined;
    const scrolled = () => {
      const atEnd = outer.scrollHeight - outer.scrollTop - outer.clientHeight < AT_END_PX;
      if (atEnd) following.current = true;
      else if (outer.scrollTop < top.current - 1) following.current = false;
      top.current = outer.scrollTop;
      setAway(!following.current);
    };
    const grown = new ResizeObserver(() => {
      if (following.current) toEnd();
      else setAway(outer.scrollHeight - outer.scrollTop - outer.clientHeight >= AT_END_PX);
    });
    outer.addEventListener("scroll", scrolled, { passive: true });
    grown.observe(inner);
    grown.observe(outer);
    return () => {
      outer.removeEventListener("scroll", scrolled);
      grown.disconnect();
    };
  }, [toEnd]);

  return { scroller, content, away, toEnd };
}
