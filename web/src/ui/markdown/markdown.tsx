/** A model's markdown: blocks that are finished are rendered once. */

import { isValidElement, memo, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import ReactMarkdown, { type Components, type Options } from "react-markdown";
import remarkGfm from "remark-gfm";
import remend from "remend";
import { Blocks } from "./blocks";
import { Code } from "./code";
import { hasFormula, withFormulas } from "./formulas";

export function Markdown({ text, growing = false }: { text: string; growing?: boolean }) {
  const blocks = useRef<Blocks>(null);
  blocks.current ??= new Blocks();
  const parts = blocks.current.of(text);
  return (
    <div className="markdown">
      {parts.map((part, i) => (
        <Block key={i} text={part} open={growing && i === parts.length - 1} />
      ))}
    </div>
  );
}

const Block = memo(function Block({ text, open }: { text: string; open: boolean }) {
  const source = useMemo(() => withFormulas(open ? remend(text, { linkMode: "text-only" }) : text), [text, open]);
  const math = useMath(hasFormula(source));
  return (
    <ReactMarkdown
      remarkPlugins={math ? [...GFM, ...math.remarkPlugins] : GFM}
      rehypePlugins={math ? math.rehypePlugins : NONE}
      components={COMPONENTS}
    >
      {source}
    </ReactMarkdown>
  );
});

type Plugins = NonNullable<Options["remarkPlugins"]>;

const GFM: Plugins = [[remarkGfm, { singleTilde: false }]];
const NONE: Plugins = [];

type Math = typeof import("./math");
let loaded: Math | undefined;

function useMath(wanted: boolean): Math | undefined {
  const [, setLoaded] = useState(loaded !== undefined);
  useEffect(() => {
    if (!wanted || loaded) return undefined;
    let here = true;
    void import("./math").then((math) => {
      loaded = math;
      if (here) setLoaded(true);
    });
    return () => {
      here = false;
    };
  }, [wanted]);
  return wanted ? loaded : undefined;
}

const COMPONENTS: Components = {
  pre: ({ children }) => <Pre>{children}</Pre>,
  a: ({ children, href }) => (
    <a href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  ),
  // An address in an answer would call out, with whatever the model wrote into it; the pages' policy forbids it too.
  img: ({ alt, src }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noreferrer noopener">
      {alt || "image"}
    </a>
  ),
  table: ({ children }) => (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls: the keyboard must reach it
    <div className="table" tabIndex={0} role="region" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
  input: ({ checked }) => <input type="checkbox" checked={checked ?? false} readOnly disabled aria-label="Task" />,
};

function Pre({ children }: { children: ReactNode }) {
  if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return <pre>{children}</pre>;
  const language = /language-(\S+)/.exec(children.props.className ?? "")?.[1]?.toLowerCase() ?? "";
  return <Code code={String(children.props.children ?? "").replace(/\n$/, "")} language={language} />;
}
