/**
 * The tags that a client's entries have, and what it knows of each, in offsets of the present epoch: `version`, the last
 * mutation known to have touched it (0: none); `covered`, above which every one is told on this connection (Infinity: none is);
 * `watched`, whether the server was asked to watch it on this connection; `denied`, where it may not be; `asked`, the questions without
 * an answer, each with the id of its watch; `entries`, which have it.
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

  /** An entry has its tags. Returns those that nobody had. */
  hold(entry) {
    const added = [];
    for (const tag of entry.tags) {
      if (!this.#tags.has(tag)) {
        this.#tags.set(tag, unknown());
        added.push(tag);
      }
      this.#tags.get(tag).entries.add(entry);
    }
    return added;
  }

  /** An entry has them no more. Returns those that nobody has now, and which of them the server watches. */
  release(entry) {
    const [left, watched] = [[], []];
    for (const tag of entry.tags) {
      const known = this.#tags.get(tag);
      known.entries.delete(entry);
      if (known.entries.size) continue;
      this.#tags.delete(tag);
      left.push(tag);
      if (known.watched) watched.push(tag);
    }
    return { left, watched };
  }
}

/** What is known of a tag before anything is. */
export function unknown() {
  return { version: 0, covered: Infinity, watched: false, denied: false, asked: new Map(), entries: new Set() };
}
