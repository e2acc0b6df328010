/**
 * What a client asks of a log about its values: what to ask with the next commands, what is out, and what is answered.
 *
 * An entry asks of each of its tags that is not proven: was it touched after the entry's basis, but for its exception? The same
 * question is asked once, for all entries that have it.
 */
import { commands, parts, questionKey } from './watch.js';

export class Questions {
  #held;
  /** id → groups of the watches without an answer. */
  #out = new Map();
  #last = 0;
  /** Entries to ask about with the next commands, and whether to ask where the log stands. */
  #open = new Set();
  #asksHead = false;
  /** Tags that nobody has any more. */
  #left = new Set();
  /** Subtrees that are not to stand for tags any more. */
  #subtrees = new Set();

  constructor(held) {
    this.#held = held;
  }

  /** How many watches have no answer. */
  get out() {
    return this.#out.size;
  }

  has(id) {
    return this.#out.has(id);
  }

  /** Asks for what is not proven of an entry by the time of the next commands. */
  ask(entry) {
    this.#open.add(entry);
  }

  /** Asks where the log stands, if there is nothing else to ask. */
  askHead() {
    this.#asksHead = true;
  }

  /** Tags that no entry has: they are taken back, unless one has them again by then. */
  leave(tags) {
    for (const tag of tags) this.#left.add(tag);
  }

  /** The subtree, which the server watches in place of tags, is taken back. */
  leaveSubtree(subtree) {
    this.#subtrees.add(subtree);
  }

  /** Nothing that is out will be answered. */
  disconnected() {
    this.#out.clear();
    this.#rest();
  }

  /** What is to be sent, in order. `isKept(entry)`: whether an entry is in the books still, and not stale. */
  commands(isKept) {
    const left = [...this.#left].filter((tag) => !this.#isBack(tag)).sort();
    const watches = commands([...this.#open].filter(isKept).flatMap((entry) => this.#of(entry)));
    if (this.#asksHead && !watches.length) watches.push([]);
    const over = this.#subtrees.size ? [{ unwatch: { tags: [], escalated: [...this.#subtrees] } }] : [];
    this.#rest();
    return [...over, ...parts(left).map((tags) => ({ unwatch: { tags } })), ...watches.map((groups) => this.#send(groups))];
  }

  /**
   * The questions of a watch that has its answer: `[tag, known, {since, except}]` each. What was taken back after the watch was sent is
   * none: the answer says nothing of who has it now.
   */
  answered(id) {
    const groups = this.#out.get(id) ?? [];
    this.#out.delete(id);
    const all = groups.flatMap((group) => group.tags.map((tag) => [tag, this.#held.get(tag), group]));
    const questions = all.filter(([, known, group]) => known?.asked.get(questionKey(group)) === id);
    for (const [, known, group] of questions) known.asked.delete(questionKey(group));
    return questions;
  }

  /** What is not proven of an entry, and not asked already. */
  #of({ basis: since, except, unproven }) {
    const key = questionKey({ since, except });
    const isOpen = (tag) => !this.#held.get(tag).denied && !this.#held.get(tag).asked.has(key);
    return [...unproven].filter(isOpen).map((tag) => ({ since, except, tag }));
  }

  /** Whether an entry has the tag again, which the server still watches. */
  #isBack(tag) {
    const known = this.#held.get(tag);
    if (known) known.watched = true;
    return Boolean(known);
  }

  #send(groups) {
    const id = ++this.#last;
    this.#out.set(id, groups);
    for (const group of groups) {
      for (const tag of group.tags) {
        const known = this.#held.get(tag);
        known.watched = true;
        known.asked.set(questionKey(group), id);
      }
    }
    return { id, watch: { groups } };
  }

  #rest() {
    this.#open.clear();
    this.#left.clear();
    this.#subtrees.clear();
    this.#asksHead = false;
  }
}
