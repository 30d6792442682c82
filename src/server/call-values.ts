/** What interceptors hand on: a few values, which a short list holds at a fraction of what an object costs. */
import type { ContextKey, ContextValues } from "@connectrpc/connect";

export class CallValues implements ContextValues {
  readonly #keys: symbol[] = [];
  readonly #values: unknown[] = [];

  get<T>({ id, defaultValue }: ContextKey<T>): T {
    const at = this.#keys.indexOf(id);
    return at === -1 ? defaultValue : (this.#values[at] as T);
  }

  set<T>({ id }: ContextKey<T>, value: T): this {
    const at = this.#keys.indexOf(id);
    if (at === -1) {
      this.#keys.push(id);
      this.#values.push(value);
    } else {
      this.#values[at] = value;
    }
    return this;
  }

  delete({ id }: ContextKey<unknown>): this {
    const at = this.#keys.indexOf(id);
    if (at !== -1) {
      this.#keys.splice(at, 1);
      this.#values.splice(at, 1);
    }
    return this;
  }
}
