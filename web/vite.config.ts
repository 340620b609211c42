import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// The desk of `make run`, for `npm run dev`.
const DESK = process.env.DESK ?? "http://127.0.0.1:8080";

/** Formulas' fonts in the one format that every browser of today reads. */
const woff2Only = {
  name: "woff2-only",
  enforce: "pre" as const,
  transform(code: string, id: string) {
    if (!/katex.*\.css$/.test(id)) return undefined;
    return code.replace(/,\s*url\([^)]+\)\s*format\(["']?(?:woff|truetype)["']?\)/g, "");
  },
};

export default defineConfig({
  plugins: [react(), woff2Only],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    target: "es2022",
    manifest: true, // names the parts of each page for size-limit; in a hidden folder, so never uploaded
    assetsInlineLimit: 0, // the pages' policy allows no data: fonts
    chunkSizeWarningLimit: 400,
  },
  server: { proxy: { "/api": DESK, "/v1": DESK, "/config.json": DESK } },
  test: {
    environment: "node",
    setupFiles: ["./src/testing/setup.ts"],
    include: ["src/**/*.test.{ts,tsx}"],
    restoreMocks: true,
    testTimeout: 60_000, // a busy machine is no failure
    expect: { poll: { timeout: 20_000 } },
  },
});
