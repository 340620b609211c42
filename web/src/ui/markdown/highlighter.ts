/** Colours for code; loaded when there is some. Each language is loaded when it is first seen. */

import { createHighlighterCore, type HighlighterCore, type LanguageInput } from "@shikijs/core";
import { createJavaScriptRegexEngine } from "@shikijs/engine-javascript";
import dark from "@shikijs/themes/github-dark-high-contrast";
import light from "@shikijs/themes/github-light-high-contrast";

export interface Piece {
  text: string;
  style: Record<string, string> | undefined;
}

const LANGUAGES: Record<string, () => Promise<unknown>> = {
  bash: () => import("@shikijs/langs/bash"),
  c: () => import("@shikijs/langs/c"),
  css: () => import("@shikijs/langs/css"),
  diff: () => import("@shikijs/langs/diff"),
  docker: () => import("@shikijs/langs/docker"),
  go: () => import("@shikijs/langs/go"),
  html: () => import("@shikijs/langs/html"),
  java: () => import("@shikijs/langs/java"),
  javascript: () => import("@shikijs/langs/javascript"),
  json: () => import("@shikijs/langs/json"),
  kotlin: () => import("@shikijs/langs/kotlin"),
  lua: () => import("@shikijs/langs/lua"),
  python: () => import("@shikijs/langs/python"),
  rust: () => import("@shikijs/langs/rust"),
  sql: () => import("@shikijs/langs/sql"),
  toml: () => import("@shikijs/langs/toml"),
  tsx: () => import("@shikijs/langs/tsx"),
  typescript: () => import("@shikijs/langs/typescript"),
  yaml: () => import("@shikijs/langs/yaml"),
};

const ALSO: Record<string, string> = {
  sh: "bash",
  shell: "bash",
  zsh: "bash",
  console: "bash",
  dockerfile: "docker",
  golang: "go",
  js: "javascript",
  jsx: "tsx",
  kt: "kotlin",
  py: "python",
  rs: "rust",
  ts: "typescript",
  yml: "yaml",
  jsonc: "json",
};

let made: Promise<HighlighterCore> | undefined;

/** The lines of a code, in pieces with a style; null for a language that is not known. */
export async function highlight(code: string, language: string): Promise<Piece[][] | null> {
  const name = ALSO[language] ?? language;
  const load = LANGUAGES[name];
  if (!load) return null;
  made ??= createHighlighterCore({ themes: [light, dark], engine: createJavaScriptRegexEngine({ forgiving: true }) });
  const highlighter = await made;
  if (!highlighter.getLoadedLanguages().includes(name)) await highlighter.loadLanguage(load as LanguageInput);
  const { tokens } = highlighter.codeToTokens(code, {
    lang: name,
    themes: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
    defaultColor: false,
  });
  return tokens.map((line) => line.map(({ content, htmlStyle }) => ({ text: content, style: htmlStyle })));
}
