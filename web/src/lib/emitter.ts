/** Who listens to what changed. */
export class Emitter<T> {
  readonly #listeners = new Set<(value: T) => void>();

  /** Returns what takes it back. */
  on(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(value: T): void {
    for (const listener of this.#listeners) listener(value);
  }
}
