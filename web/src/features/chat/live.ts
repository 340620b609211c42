/** Answers that are coming, outside of React: a piece costs a concatenation, and what is shown changes 12 times a second
 * at most. */

import { Emitter } from "@/lib/emitter";

export const FLUSH_MS = 80;

export interface Shown {
  text: string;
  reasoning: string;
  tokensPerS: number | null;
}

export class LiveAnswers {
  readonly #shown = new Map<string, Shown>();
  readonly #changed = new Emitter<string>();
  readonly #coming = new Map<string, Shown>();
  #flushing = false;

  update(id: string, now: Shown): void {
    this.#coming.set(id, now);
    if (this.#flushing) return;
    this.#flushing = true;
    setTimeout(() => this.#flush(), FLUSH_MS);
  }

  /** It has ended: the database has it now. */
  end(id: string): void {
    this.#coming.delete(id);
    if (this.#shown.delete(id)) this.#changed.emit(id);
  }

  get(id: string): Shown | undefined {
    return this.#shown.get(id);
  }

  on(id: string, listener: () => void): () => void {
    return this.#changed.on((changed) => {
      if (changed === id) listener();
    });
  }

  #flush(): void {
    this.#flushing = false;
    const changed = [...this.#coming];
    this.#coming.clear();
    for (const [id, shown] of changed) {
      this.#shown.set(id, shown);
      this.#changed.emit(id);
    }
  }
}
