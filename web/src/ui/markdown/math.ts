/** The plugins that set formulas; loaded when there is one. */

import "katex/dist/katex.min.css";
import rehypeKatex from "rehype-katex";
import remarkMath from "remark-math";
import type { Options } from "react-markdown";

type Plugins = NonNullable<Options["remarkPlugins"]>;

export const remarkPlugins: Plugins = [[remarkMath, { singleDollarTextMath: false }]];
export const rehypePlugins: Plugins = [[rehypeKatex, { throwOnError: false, errorColor: "var(--bad)", strict: false }]];
