/** Formulas as models write them, made into the one form that the parser is told to take: `$$…$$`. Money stays money. */

const CODE = /(^ {0,3}(?:`{3,}|~{3,})[^]*?(?:^ {0,3}(?:`{3,}|~{3,}) *$|$(?![^]))|(`+)(?!`)[^]*?[^`]\2(?!`))/gm;

/** Code is left alone. */
export function withFormulas(markdown: string): string {
  if (!/[$\\]/.test(markdown)) return markdown;
  let text = "";
  let at = 0;
  for (const code of markdown.matchAll(CODE)) {
    text += formulas(markdown.slice(at, code.index)) + code[0];
    at = code.index + code[0].length;
  }
  return text + formulas(markdown.slice(at));
}

export const hasFormula = (markdown: string): boolean => markdown.includes("$$");

const inLine = (formula: string): string => "$$" + formula + "$$";
const alone = (formula: string): string => `$$\n${formula.trim()}\n$$`;

function formulas(text: string): string {
  return text
    .replace(/(?<!\\)\\\[([^]*?)\\\]/g, (_, formula: string) => `\n${alone(formula)}\n`)
    .replace(/(?<!\\)\\\(([^]*?)\\\)/g, (_, formula: string) => inLine(formula.trim()))
    .replace(/(?<![\\$\w])\$(?![\s$])((?:\\.|[^$\n\\])+?)(?<![\s\\])\$(?![\d$\w])/g, (whole, formula: string) =>
      isFormula(formula) ? inLine(formula) : whole,
    )
    .replace(/^[ \t]*\$\$[ \t]*([^$\n][^$]*?)[ \t]*\$\$[ \t]*$/gm, (_, formula: string) => alone(formula));
}

/** Between single dollars stands a formula if it looks like one; `$5 or` and `$20-` do not. */
function isFormula(inside: string): boolean {
  if (/^[\d.,]/.test(inside)) return /[\\^_{]/.test(inside) || /^\d+\s*[+\-*/=<>]\s*[\w\\]+$/.test(inside);
  return /^[A-Za-z](?:'|\d)?$/.test(inside) || /[\\^_{}=<>+*/|]/.test(inside) || /^[A-Za-z]\([\w, ]+\)$/.test(inside);
}
