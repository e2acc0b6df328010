/** Waiting for a word of the server that decides about values: for a second, and only as long as that is not in vain. */

/** How long a value waits for a word about it, before it is read again instead. */
const PATIENCE_MS = 1_000;

export class Patience {
  #timers;
  #waiting = new Set();
  /** Somebody waited in vain, and nothing changed since: nobody else has to find that out. */
  #isVain = false;

  constructor(timers) {
    this.#timers = timers;
  }

  /** A promise of the moment when `isOpen()` is not so any more, or of the end of patience; undefined where that is now. */
  wait(entry, isOpen) {
    if (this.#isVain || !isOpen()) return undefined;
    return new Promise((resolve) => {
      const end = () => {
        this.#timers.clearTimeout(timer);
        this.#waiting.delete(waiter);
        entry.waiters.delete(waiter);
        resolve();
      };
      const waiter = { isOpen, end };
      const timer = this.#timers.setTimeout(() => {
        this.#isVain = true;
        end();
      }, PATIENCE_MS);
      this.#waiting.add(waiter);
      entry.waiters.add(waiter);
    });
  }

  /** The server said something: it is worth waiting again. */
  hope() {
    this.#isVain = false;
  }

  /** Something changed for this entry. */
  review({ waiters }) {
    for (const waiter of waiters) if (!waiter.isOpen()) waiter.end();
  }

  /** Something changed for all. */
  reviewAll() {
    this.hope();
    this.review({ waiters: this.#waiting });
  }

  close() {
    for (const waiter of this.#waiting) waiter.end();
  }
}
