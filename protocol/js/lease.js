/** How long a client may serve what it holds without asking, on its own clock. */

/** Pings that may be unanswered; three are sent in a lease, so older ones could renew nothing. */
const PINGS_MAX = 16;

/**
 * The two clocks do not tick together: a wall clock that is ahead by no more, in ms, since they were last read has not slept.
 * Without that, a clock that is read often would add up the larger of every two roundings.
 */
const TICK = 16;

/**
 * A clock for leases, made of two clocks that may each stand still: the monotonic one while the machine sleeps, the wall
 * clock while somebody sets it back. It never goes back, and advances by whatever is clearly more, so no lease outlives a sleep.
 */
export class LeaseClock {
  #seen = null;
  #now = 0;

  /** The time in whole ms, given what the two clocks say, in ms since whenever. */
  read(monotonic, wall) {
    const [monotonicBefore, wallBefore] = this.#seen ?? [monotonic, wall];
    this.#seen = [monotonic, wall];
    const passed = Math.max(monotonic - monotonicBefore, 0);
    const ahead = wall - wallBefore - passed;
    this.#now += ahead > TICK ? passed + ahead : passed;
    return Math.floor(this.#now);
  }
}

/** The lease of one log on one connection, which lasts `duration` ms from each ping that is echoed. */
export class Lease {
  /** When it ends; 0 where there is none. */
  until = 0;
  /** The `c` of the last ping; -1 before the first. */
  last = -1;
  #duration;
  /** The `c` of pings that were not echoed yet, ascending. */
  #pings = [];

  constructor(duration = 0) {
    this.#duration = duration;
  }

  pinged(c) {
    this.last = c;
    this.#pings.push(c);
    if (this.#pings.length > PINGS_MAX) this.#pings.shift();
  }

  /** The server confirmed where the log stands after this ping arrived. What was never sent renews nothing: false. */
  echoed(c) {
    if (!this.#pings.includes(c)) return false;
    this.until = Math.max(this.until, c + this.#duration);
    this.#pings = this.#pings.filter((ping) => ping > c);
    return true;
  }
}
