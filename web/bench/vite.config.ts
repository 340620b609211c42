/** The page of `tests/bench/web.py`, with everything that the app is built with. */

import { fileURLToPath } from "node:url";
import { defineConfig, mergeConfig } from "vite";
import app from "../vite.config.ts";

export default mergeConfig(
  app,
  defineConfig({
    root: fileURLToPath(new URL(".", import.meta.url)),
    publicDir: false,
    build: { rollupOptions: { input: fileURLToPath(new URL("./stream.html", import.meta.url)) } },
  }),
);
