/** How fast an answer came, and what it cost. Pure: times are handed in, in milliseconds. */

import type { TokenUsage } from "@/api/chat";
import type { Message } from "./conversation";

export class Meter {
  #first = 0;
  #last = 0;
  #firstText = 0;
  #pieces = 0;

  constructor(private readonly begun: number) {}

  piece(now: number, kind: "text" | "reasoning"): void {
    this.#first ||= now;
    if (kind === "text") this.#firstText ||= now;
    this.#last = now;
    this.#pieces += 1;
  }

  /** What is known by now; tokens are pieces until the engine has counted them. */
  figures(usage: TokenUsage | undefined, usdPerHour: number | null): Partial<Message> {
    if (!this.#first) return usage ? { usage } : {};
    const tokens = usage?.completion_tokens ?? this.#pieces;
    const generatingS = (this.#last - this.#first) / 1000;
    return {
      firstTokenS: (this.#first - this.begun) / 1000,
      // Of the first token it is not known how long it took.
      ...(generatingS > 0.05 && tokens > 1 ? { tokensPerS: (tokens - 1) / generatingS } : {}),
      ...(this.#firstText > this.#first ? { reasoningS: (this.#firstText - this.#first) / 1000 } : {}),
      ...(usage ? { usage } : {}),
      ...(usdPerHour === null ? {} : { usd: ((this.#last - this.begun) / 3_600_000) * usdPerHour }),
    };
  }
}
