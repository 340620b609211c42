/** Markdown in blocks, so that a growing answer parses only its end again. A parser's lexer would do it too, and costs
 * more than all the rest of this folder to load. */

const SURE_CHARS = 12;

/** The blocks of a text that grows. Those that are finished are the same strings every time. */
export class Blocks {
  #text = "";
  #finished: string[] = [];
  #from = 0; // where the unfinished part begins

  /** All blocks of the text; the last may still grow. */
  of(text: string): readonly string[] {
    if (!text.startsWith(this.#text)) {
      this.#finished = [];
      this.#from = 0;
    }
    this.#text = text;
    const open = split(text.slice(this.#from));
    let last = open.pop();
    // `1` is a paragraph, `1. ` the next item of the list above it: a line of few characters decides nothing yet.
    if (last !== undefined && !last.includes("\n") && last.length < SURE_CHARS) last = (open.pop() ?? "") + last;
    for (const block of open) this.#from += block.length;
    this.#finished.push(...open);
    return last === undefined ? this.#finished.slice() : [...this.#finished, last];
  }
}

const FENCE = /^\s*(?:(?:[-*+>]|\d+[.)])\s+)*(`{3,}|~{3,})/;
const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const HEADING = /^ {0,3}#{1,6}\s/;

/**
 * Every character is in one block. A block ends at blank lines, or before a heading, but never
 *
 * 1. inside of code or of a formula,
 * 2. before an indented line: it belongs to the list above it,
 * 3. before a list's next item.
 */
export function split(text: string): string[] {
  const blocks: string[] = [];
  const inside = new Inside();
  let block = "";
  let list = false; // the block is one
  let blank = false; // the line before is
  for (const line of linesOf(text)) {
    const ends = block.trim() && !inside.something && (blank ? endsBefore(line, list) : HEADING.test(line));
    if (ends) {
      blocks.push(block);
      block = "";
    }
    if (!block.trim()) list = ITEM.test(line);
    block += line;
    blank = !line.trim();
    inside.take(line);
  }
  return block ? [...blocks, block] : blocks;
}

function endsBefore(line: string, list: boolean): boolean {
  if (!line.trim() || /^(?: {2,}|\t)/.test(line)) return false;
  return !(list && ITEM.test(line));
}

/** Lines with their ends. */
const linesOf = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

/** Whether a line stands in code or in a formula that began above it. */
class Inside {
  #fence = "";
  #formula = false;

  get something(): boolean {
    return this.#fence !== "" || this.#formula;
  }

  take(line: string): void {
    if (this.#fence) {
      const closes = new RegExp(`^\\s*${this.#fence[0]}{${this.#fence.length},}\\s*$`).test(line);
      if (closes) this.#fence = "";
      return;
    }
    const fence = this.#formula ? null : FENCE.exec(line);
    if (fence?.[1] && !line.slice(line.indexOf(fence[1]) + fence[1].length).includes("`")) this.#fence = fence[1];
    else this.#formula = formulaAfter(line.replace(/(`+)[^`]*\1/g, ""), this.#formula);
  }
}

function formulaAfter(line: string, open: boolean): boolean {
  for (const [mark] of line.matchAll(/\$\$|(?<!\\)\\[[\]]/g)) {
    if (mark === "$$") open = !open;
    else open = mark === "\\[";
  }
  return open;
}
