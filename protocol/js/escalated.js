/**
 * Subtrees that the server watches in place of the tags in them, because there were too many. Whoever holds half as many of
 * those by now asks for each again: a subtree tells of mutations that touch nothing that is held.
 */
import { covers } from './tag.js';

export class Escalated {
  /** subtree → {held, most}: the held tags in it, now and at most. */
  #subtrees = new Map();

  has(tag) {
    return this.#subtrees.has(tag);
  }

  /** The server watches the subtree from now on, in which so many tags are held. */
  begin(subtree, held) {
    if (!this.has(subtree)) this.#subtrees.set(subtree, { held, most: held });
  }

  /** These tags are held from now on. */
  hold(tags) {
    this.#each(tags, (subtree, count) => (count.most = Math.max(count.most, ++count.held)));
  }

  /** These tags are not held any more. Returns the subtrees that are not needed now. */
  leave(tags) {
    const over = new Set();
    this.#each(tags, (subtree, count) => --count.held <= count.most / 2 && over.add(subtree));
    for (const subtree of over) this.#subtrees.delete(subtree);
    return [...over];
  }

  clear() {
    this.#subtrees.clear();
  }

  #each(tags, act) {
    if (!this.#subtrees.size) return;
    for (const tag of tags) {
      for (const [subtree, count] of this.#subtrees) if (covers(subtree, tag)) act(subtree, count);
    }
  }
}
