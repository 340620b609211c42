/** Light, dark, or as the device has it. */

export type Theme = "auto" | "light" | "dark";

const KEPT = "diogenes.theme";

export function keptTheme(): Theme {
  const told = localStorage.getItem(KEPT);
  return told === "light" || told === "dark" ? told : "auto";
}

export function applyTheme(theme: Theme): void {
  if (theme === "auto") localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, theme);
  document.documentElement.dataset["theme"] = theme;
}
