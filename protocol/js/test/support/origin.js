import { labelled } from '../../reading.js';

/** A database with a way to it: a read takes its value after `before` ms and brings it `after` ms later. */
export class Origin {
  reads = 0;
  #rows = new Map();
  #clock;
  before = 10;
  after = 10;

  constructor({ clock, hub }) {
    this.#clock = clock;
    this.hub = hub;
  }

  value(row) {
    return this.#rows.get(row) ?? 0;
  }

  /** Changes a row and says so; gives the mutation's position. */
  write(row, { tell = true } = {}) {
    this.#rows.set(row, this.value(row) + 1);
    return tell ? this.hub.mutate([row]) : undefined;
  }

  /**
   * A transaction that changes a row is committed now, and its mutation is published `late` ms later, which another one may
   * overtake. A promise of what its answer says: `{value, basis, position}`, with the basis of before the transaction.
   */
  async change(row, late, publish = () => this.hub.mutate([row])) {
    const basis = this.hub.log().position;
    const value = this.value(row) + 1;
    this.#rows.set(row, value);
    await this.#pass(late);
    return { value, basis, position: publish() };
  }

  /** A fetcher of the row; `label(value)` may say what the value depends on and where it comes from. */
  fetcher(row, label = (value) => labelled(value, { tags: [row] })) {
    return async () => {
      this.reads++;
      await this.#pass(this.before);
      const given = label(this.value(row));
      await this.#pass(this.after);
      if (given instanceof Error) throw given;
      return given;
    };
  }

  #pass(ms) {
    return new Promise((resolve) => this.#clock.setTimeout(resolve, ms));
  }
}
