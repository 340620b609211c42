import { expect, test } from "vitest";
import { withFormulas } from "./formulas";

test.each([
  "It costs $5.",
  "From $5 to $7 an hour.",
  "$23 then, $14 now.",
  "$5-$10, or 5$ and 6$.",
  "Set $HOME and $PATH before.",
  "A price of $1,000 and another of $2,000.",
  "I have $3 and you have $4, together $7.",
  "`$x^2$` is code, and so is ``a $y_1$ b``.",
  "```sh\necho $A_B $C_D\n\\( no \\)\n```",
  "Escaped \\$x^2\\$ stays.",
])("money and code stay: %s", (text) => expect(withFormulas(text)).toBe(text));

test.each([
  ["so \\(x^2\\) is", "so $$x^2$$ is"],
  ["so $x^2$ is", "so $$x^2$$ is"],
  ["let $n$ be", "let $$n$$ be"],
  ["$E = mc^2$, said he", "$$E = mc^2$$, said he"],
  ["$\\frac{1}{2}$ of it", "$$\\frac{1}{2}$$ of it"],
  ["$2\\pi r$ and $5", "$$2\\pi r$$ and $5"],
  ["costs $5, with $x_1$ pieces", "costs $5, with $$x_1$$ pieces"],
  ["\\[ a + b \\]", "\n$$\na + b\n$$\n"],
])("formulas are found: %s", (text, made) => expect(withFormulas(text)).toBe(made));

test("a formula on a line of its own is shown alone", () => {
  expect(withFormulas("$$ a = b $$")).toBe("$$\na = b\n$$");
});
