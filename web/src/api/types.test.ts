import { readFileSync } from "node:fs";
import openapiTs, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { expect, test } from "vitest";

test("the types are those of the description", async () => {
  const made = COMMENT_HEADER + astToString(await openapiTs(new URL("../../openapi.json", import.meta.url)));
  expect(readFileSync(new URL("types.gen.ts", import.meta.url), "utf8"), "`make web-types` makes them again").toBe(
    made,
  );
});
