/**
 * The tags that a client's entries have, and what it knows of each, in offsets of the present epoch: `version`, the last
 * mutation known to have touched it (0: none); `covered`, above which every one is told on this connection (Infinity: none is);
 * `denied`, where it may not be watched; `entries`, which have it.
 *
 * It is forgotten as a whole with the last entry that has the tag: who holds it again asks again.
 */
import { covers } from './tag.js';

export class Held {
  #tags = new Map();

  get(tag) {
    return this.#tags.get(tag);
  }

  has(tag) {
    return this.#tags.has(tag);
  }

  /** All of what is known. */
  values() {
    return this.#tags.values();
  }

  /** The held tags that `fits` takes; all of them without one. */
  matching(fits = () => true) {
    return [...this.#tags.keys()].filter(fits);
  }

  /** The held tags that are in a tag or subtree. */
  under(tag) {
    return this.matching((held) => covers(tag, held));
  }

  /** An entry has its tags. */
  hold(entry) {
    for (const tag of entry.tags) {
      const known = this.#tags.get(tag) ?? { version: 0, covered: Infinity, denied: false, entries: new Set() };
      this.#tags.set(tag, known);
      known.entries.add(entry);
    }
  }

  /** An entry has them no more. Returns those that nobody has now. */
  release(entry) {
    const left = [];
    for (const tag of entry.tags) {
      const known = this.#tags.get(tag);
      known.entries.delete(entry);
      if (known.entries.size) continue;
      this.#tags.delete(tag);
      left.push(tag);
    }
    return left.sort();
  }
}
