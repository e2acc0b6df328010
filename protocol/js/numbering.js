/** Which positions mean something in the present epoch of a log: those of the epoch, and what it continues of others. */

/** Changes of names that are remembered; the server remembers as many. */
const RENAMES_MAX = 64;

export class Numbering {
  /** The present epoch; null before the first. */
  epoch = null;
  /** epoch → {shared, to}: up to `shared` its offsets are those of `to`. */
  #renames = new Map();

  /** Remembers what a `continued` says of two epochs. False where that is no change of names: the offsets differ. */
  learn({ from, position }) {
    if (from.offset !== position.offset || from.epoch === position.epoch) return false;
    this.#renames.delete(from.epoch);
    this.#renames.set(from.epoch, { shared: from.offset, to: position.epoch });
    if (this.#renames.size > RENAMES_MAX) this.#renames.delete(this.#renames.keys().next().value);
    return true;
  }

  /** The offset of the same place in the present epoch; undefined where nobody said that there is one. */
  offsetOf({ epoch, offset }) {
    // Renames may form a circle only if a server lies; it is left after as many steps as there are.
    for (let steps = 0; steps <= this.#renames.size; steps++) {
      if (epoch === this.epoch) return offset;
      const rename = this.#renames.get(epoch);
      if (!rename || offset > rename.shared) return undefined;
      epoch = rename.to;
    }
    return undefined;
  }

  /** Below 0 where `one` is earlier, above 0 where it is later; undefined where they cannot be compared. */
  order(one, other) {
    if (one.epoch === other.epoch) return one.offset - other.offset;
    const order = this.offsetOf(one) - this.offsetOf(other);
    return Number.isNaN(order) ? undefined : order;
  }

  /** Whether `one` is before `other`, or nobody can tell. */
  precedes(one, other) {
    return !(this.order(one, other) >= 0);
  }

  /** Whether both are known to be the same place; where there is none, false. */
  isSame(one, other) {
    return Boolean(one && other) && this.order(one, other) === 0;
  }

  /** Whether a value with this basis does not reflect a mutation, unless that is its exception; or nobody can tell. */
  misses({ basis, except }, mutation) {
    return this.precedes(basis, mutation) && !this.isSame(except, mutation);
  }
}
