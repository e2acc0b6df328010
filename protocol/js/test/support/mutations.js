/** A model of a mutation log: numbers, versions of tags, and a lineage of epochs. */
import { overlap } from '../../tag.js';

export class MutationLog {
  /** The tags of each mutation; the first has offset 1. */
  #mutations = [];
  #generation = 1;
  /** epoch → the offset up to which it goes on in the present one. */
  #continues = new Map();

  constructor(name) {
    this.name = name;
    /** As it is said on the wire. */
    this.ns = name === 'default' ? undefined : name;
  }

  get epoch() {
    return `${this.#generation}-log`;
  }

  get position() {
    return { epoch: this.epoch, offset: this.#mutations.length };
  }

  append(tags) {
    this.#mutations.push(tags);
    return this.position;
  }

  /** A new epoch without the last `lost` mutations: `{from, position, gone}`. */
  fork(lost) {
    const { epoch } = this;
    const gone = lost ? this.#mutations.splice(-lost) : [];
    const offset = this.#mutations.length;
    for (const [older, end] of this.#continues) this.#continues.set(older, Math.min(end, offset));
    this.#continues.set(epoch, offset);
    this.#generation++;
    return { from: { epoch, offset }, position: this.position, gone };
  }

  /** Whether a mutation after `since`, other than `except`, touched the tag, or nobody can tell. */
  isTouched(tag, since, except) {
    const offset = this.#offsetOf(since);
    if (offset === undefined) return true;
    const own = except && this.#offsetOf(except);
    const touches = (tags) => tags.some((other) => overlap(tag, other));
    return this.#mutations.some((tags, i) => i >= offset && i + 1 !== own && touches(tags));
  }

  /** The offset of the same place in the present epoch; undefined where there is none. */
  #offsetOf({ epoch, offset }) {
    const end = epoch === this.epoch ? Infinity : this.#continues.get(epoch);
    return end === undefined || offset > end ? undefined : offset;
  }
}
