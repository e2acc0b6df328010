/** The entries of a cache: a bounded number of them, of which those that were used longest ago go first. */
export class Entries {
  /** key → Entry, the one that was used last at the end. */
  #entries = new Map();
  #max;

  constructor(max) {
    this.#max = max;
  }

  get(key) {
    return this.#entries.get(key);
  }

  delete(key) {
    this.#entries.delete(key);
  }

  values() {
    return this.#entries.values();
  }

  /** The entry of `key`, which is the last one to be dropped from now on; `drop(entry)` drops one that nobody needs for it. */
  use(key, make, drop) {
    const entry = this.#entries.get(key) ?? make();
    this.#entries.delete(key);
    for (const old of this.#entries.values()) {
      if (this.#entries.size < this.#max) break;
      if (!old.listeners.size && !old.reader) drop(old);
    }
    this.#entries.set(key, entry);
    return entry;
  }
}
