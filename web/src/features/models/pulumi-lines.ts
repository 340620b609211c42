/** The `pulumi config set` lines for what is Pulumi's: hardware, and whatever shall hold for good. Pure. */

import { isRecord } from "@/api/errors";
import type { ModelConfig } from "@/api/models";

/** Keys that only Pulumi sets. */
export type Hardware = Pick<ModelConfig, "repository" | "instanceTypes" | "market">;

/** Where a model stands in `diogenes:models`; its name where the stack has to be asked: the server keeps no order. */
export type Place = number | string;

export const placeOf = (models: readonly unknown[], name: string): Place => (models.length === 1 ? 0 : name);

/** Lines that turn `before` into `after`, for the model at this place of `diogenes:models`. */
export function linesFor(place: Place, before: ModelConfig, after: Partial<ModelConfig>): string[] {
  const lines: string[] = [];
  for (const [key, value] of Object.entries(after)) {
    const old = before[key as keyof ModelConfig];
    if (value === undefined || JSON.stringify(value) === JSON.stringify(old)) continue;
    lines.push(...(Array.isArray(value) ? listLines(place, key, value, old) : [set(place, key, String(value))]));
  }
  return lines.length ? [...(typeof place === "string" ? [found(place)] : []), ...lines, "pulumi up"] : [];
}

/** Puts the model's place into the shell's variable N. Whoever deployed has Python. */
function found(name: string): string {
  const index = `import json, sys; print([m["name"] for m in json.load(sys.stdin)].index(sys.argv[1]))`;
  return `N=$(pulumi config get diogenes:models | python3 -c '${index}' ${quoted(name)})`;
}

/** A path within the model's part of the configuration, as a word of the shell. */
const pathTo = (place: Place, key: string): string =>
  typeof place === "string" ? `"diogenes:models[$N].${key}"` : quoted(`diogenes:models[${place}].${key}`);

function listLines(place: Place, key: string, value: readonly unknown[], old: unknown): string[] {
  const before: readonly unknown[] = Array.isArray(old) ? old : [];
  const given = value.flatMap((each, i) => itemLines(place, `${key}[${i}]`, each, before[i]));
  // From the end, or the places of those that follow would move.
  const gone = before.map((_, i) => i).filter((i) => i >= value.length);
  return [...given, ...gone.toReversed().map((i) => `pulumi config rm --path ${pathTo(place, `${key}[${i}]`)}`)];
}

function itemLines(place: Place, path: string, value: unknown, old: unknown): string[] {
  if (!isRecord(value)) return value === old ? [] : [set(place, path, String(value))];
  const before = isRecord(old) ? old : {};
  const changed = Object.entries(value).filter(([key, each]) => each !== before[key]);
  return changed.map(([key, each]) => set(place, `${path}.${key}`, String(each)));
}

const set = (place: Place, key: string, value: string): string =>
  `pulumi config set --path ${pathTo(place, key)} ${argument(value)}`;

/** A value that begins like a flag would be taken for one. */
const argument = (value: string): string => (value.startsWith("-") ? `-- ${quoted(value)}` : quoted(value));

/** As a shell takes it for one word. */
export function quoted(text: string): string {
  return /^[\w./:=@%+-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** What to type for a first model. */
export const FIRST_MODEL = [
  "pulumi config set --path 'diogenes:models[0].name' Qwen/Qwen3-14B-AWQ",
  "pulumi config set --path 'diogenes:models[0].instanceTypes[0]' g5.xlarge",
  "pulumi config set --path 'diogenes:models[0].vllmArgs' -- '--max-model-len 16384'",
  "pulumi up",
].join("\n");
