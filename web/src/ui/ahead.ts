/** Whether a model is started as soon as it is picked, before the first question: this browser's choice. */

import { prewarm, type Model } from "@/api/models";

const KEPT = "diogenes.ahead";

export const keptAhead = (): boolean => localStorage.getItem(KEPT) === "yes";

export function keepAhead(on: boolean): void {
  if (on) localStorage.setItem(KEPT, "yes");
  else localStorage.removeItem(KEPT);
}

/** Somebody picked this model. Where the budget for it is spent, it is woken by the question, as ever. */
export function picked(model: Model | undefined): void {
  if (model?.status === "cold" && keptAhead()) prewarm(model.name).catch(() => undefined);
}
