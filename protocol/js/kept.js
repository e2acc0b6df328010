/** What the books hold of one value. */
export class Kept {
  stale = false;
  /** The tags of which no answer says that they were untouched since the basis. */
  unproven = new Set();
  /** Where the log stood at the oldest answer that counts; 0 where no answer speaks of all tags. */
  provenAt = Infinity;
  #numbering;

  constructor(key, tags, basis, except, numbering) {
    Object.assign(this, { key, tags: new Set(tags), basis, except });
    this.#numbering = numbering;
    this.#settle();
  }

  /** Whether it does not reflect a mutation, or nobody can tell. */
  misses(mutation) {
    return this.#numbering.misses(this, mutation);
  }

  /**
   * Whether it must not be replaced: its basis is above the other one, or it reflects an own mutation that the other one may not
   * reflect, or it is good in the present epoch while nobody knows what the other basis means.
   */
  isNewer(basis, except) {
    const numbering = this.#numbering;
    const isKnown = (position) => numbering.offsetOf(position) !== undefined;
    const order = numbering.order(this.basis, basis);
    if (order === undefined) return !this.stale && isKnown(this.basis) && !isKnown(basis);
    const isOwn = () => numbering.order(this.except, basis) > 0 && !numbering.isSame(this.except, except);
    return order > 0 || (this.except !== null && isOwn());
  }

  /** Nobody knows any more. */
  doubt() {
    this.unproven = new Set(this.tags);
    this.provenAt = Infinity;
  }

  /** It is as good as read at this position, if that is later than its basis. */
  raise(position) {
    if (this.#numbering.precedes(this.basis, position)) this.basis = position;
    this.#settle();
  }

  /** An own mutation right after the basis is in the value; one at the basis or before it is no exception. */
  #settle() {
    const { basis, except } = this;
    if (!except) return;
    if (basis.epoch === except.epoch && basis.offset + 1 === except.offset) this.basis = except;
    if (this.#numbering.order(this.basis, except) >= 0) this.except = null;
  }
}
