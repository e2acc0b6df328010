/** Time that a test moves by hand, in the shape of the client's `timers`. */
export class Clock {
  #now = 0;
  /** How long the machine slept: the wall clock went on, timers and the monotonic clock stood still. */
  #slept = 0;
  #nextTimer = 1;
  #timers = new Map();

  now = () => this.#now + this.#slept;

  monotonic = () => this.#now;

  /** The machine sleeps for `ms`. */
  sleep(ms) {
    this.#slept += ms;
  }

  setTimeout = (then, ms = 0) => {
    this.#timers.set(this.#nextTimer, { at: this.#now + ms, then });
    return this.#nextTimer++;
  };

  clearTimeout = (timer) => void this.#timers.delete(timer);

  /** Timers that wait; a client that was closed leaves none. */
  get pending() {
    return this.#timers.size;
  }

  /** Lets `ms` pass, timer by timer; promises settle in between. */
  async advance(ms) {
    const end = this.#now + ms;
    await settle();
    for (let due = this.#due(end); due; due = this.#due(end)) {
      const [timer, { at, then }] = due;
      this.#timers.delete(timer);
      this.#now = at;
      then();
      await settle();
    }
    this.#now = end;
  }

  #due(end) {
    let first;
    for (const entry of this.#timers) {
      // Of timers that are due at once the older goes first, as everywhere.
      if (entry[1].at <= end && (!first || entry[1].at < first[1].at)) first = entry;
    }
    return first;
  }
}

/** Everything that promises can do without time passing. */
export async function settle() {
  for (let i = 0; i < 40; i++) await Promise.resolve();
}
