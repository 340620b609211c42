// What a page loads before it shows: its own part and all that it imports statically, as the bundler's manifest says.
const { readFileSync } = require("node:fs");

const manifest = JSON.parse(readFileSync(`${__dirname}/dist/.vite/manifest.json`, "utf8"));

function parts(entry, seen = new Set()) {
  if (!manifest[entry]) throw new Error(`the build has no part ${entry}`);
  if (!seen.has(entry)) {
    seen.add(entry);
    for (const next of manifest[entry].imports ?? []) parts(next, seen);
  }
  return seen;
}

const files = (entries, kind) => {
  const found = new Set();
  for (const part of new Set(entries.flatMap((entry) => [...parts(entry)]))) {
    if (kind === "js") found.add(manifest[part].file);
    else for (const css of manifest[part].css ?? []) found.add(css);
  }
  return [...found].map((file) => `dist/${file}`);
};

const without = (all, some) => all.filter((file) => !some.includes(file));
const shell = files(["index.html"], "js");
const page = (name) => files(["index.html", `src/features/${name}.tsx`], "js");
const chat = page("chat/chat-page");
const limit = (name, path, size) => ({ name, path, limit: `${size} KB`, gzip: true });

module.exports = [
  limit("shell", shell, 105),
  limit("chat: all that loads first", chat, 180),
  limit("chat: its own", without(chat, shell), 80),
  limit("css of the chat page", files(["index.html", "src/features/chat/chat-page.tsx"], "css"), 12),
  ...[
    "models/models-page",
    "models/edit-page",
    "usage/usage-page",
    "keys/keys-page",
    "events/events-page",
    "settings/settings-page",
  ].map((name) => limit(name, without(page(name), shell), 15)),
  limit("math, when there is some", without(files(["src/ui/markdown/math.ts"], "js"), chat), 95),
  limit("highlighter, when there is code", without(files(["src/ui/markdown/highlighter.ts"], "js"), chat), 70),
];
