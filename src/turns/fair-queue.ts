/**
 * A queue that gives each grant its turn, and within a grant each scope, so that
 * one tenant's thousand waiting turns stand behind another's single one only
 * once.
 */
export class FairQueue<T> {
  readonly #grants = new Ring<Ring<T[]>>();

  get isEmpty(): boolean {
    return this.#grants.size === 0;
  }

  push(grant: string, scope: string, item: T): void {
    const scopes = this.#grants.getOrAdd(grant, () => new Ring());
    scopes.getOrAdd(scope, () => []).push(item);
  }

  shift(): T | undefined {
    const scopes = this.#grants.take();
    if (scopes === undefined) return undefined;
    const items = scopes.value.take();
    const item = items?.value.shift();
    if (items !== undefined && items.value.length === 0) scopes.value.delete(items.name);
    if (scopes.value.size === 0) this.#grants.delete(scopes.name);
    return item;
  }
}

/** Named members, handed out in turn. */
class Ring<V> {
  readonly #members = new Map<string, V>();

  get size(): number {
    return this.#members.size;
  }

  getOrAdd(name: string, make: () => V): V {
    let value = this.#members.get(name);
    if (value === undefined) {
      value = make();
      this.#members.set(name, value);
    }
    return value;
  }

  /** The member whose turn it is, which then goes to the end. */
  take(): { name: string; value: V } | undefined {
    for (const [name, value] of this.#members) {
      this.#members.delete(name);
      this.#members.set(name, value);
      return { name, value };
    }
    return undefined;
  }

  delete(name: string): void {
    this.#members.delete(name);
  }
}
