import { expect, test } from "vitest";
import { Blocks, split } from "./blocks";

const ANSWER = `# Title
Words about it.

- one

- two
  more of two

1. first
2. second

\`\`\`python
def f():

    return 1  # $$

# not a heading
\`\`\`

$$
a

+ b
$$

| a | b |
|---|---|
| 1 | 2 |

The end.
`;

test("every character is in one block", () => {
  expect(split(ANSWER).join("")).toBe(ANSWER);
  for (let n = 0; n < ANSWER.length; n++) expect(split(ANSWER.slice(0, n)).join("")).toBe(ANSWER.slice(0, n));
});

test("code, formulas, lists and tables are whole", () => {
  const blocks = split(ANSWER).map((block) => block.trim());
  expect(blocks).toContain("- one\n\n- two\n  more of two\n\n1. first\n2. second");
  expect(blocks.find((block) => block.startsWith("```"))).toMatch(/not a heading\n```$/);
  expect(blocks).toContain("$$\na\n\n+ b\n$$");
  expect(blocks).toContain("| a | b |\n|---|---|\n| 1 | 2 |");
  expect(blocks.at(-1)).toBe("The end.");
});

test("a growing text gives the same blocks as the whole one, and finished ones stay", () => {
  const blocks = new Blocks();
  let before: readonly string[] = [];
  for (let n = 1; n <= ANSWER.length; n++) {
    const now = blocks.of(ANSWER.slice(0, n));
    expect(now.join("")).toBe(ANSWER.slice(0, n));
    expect(now.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
    before = now;
  }
  expect(before).toEqual(split(ANSWER));
});

test("another text is begun anew", () => {
  const blocks = new Blocks();
  blocks.of("One.\n\nTwo.");
  expect(blocks.of("Three.")).toEqual(["Three."]);
});

test("a fence that ends only with its own kind holds the other", () => {
  const text = "~~~~\n```\n\nx\n~~~~\n\nend";
  expect(split(text)).toEqual(["~~~~\n```\n\nx\n~~~~\n\n", "end"]);
});
