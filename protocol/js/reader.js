/**
 * One read of a value by its fetcher, begun again where a mutation came between: what is read before a mutation and arrives after
 * it is never taken for what follows it.
 */
import { TidingsError } from './errors.js';
import { readingFrom } from './reading.js';
import { overlap } from './tag.js';
import { later } from './timing.js';

/** Attempts of a read that loses every race against mutations. */
const TRIES = 3;

/** A fetch that takes longer has failed: browsers themselves wait for minutes, and nobody else may read the value meanwhile. */
const TIMEOUT_MS = 30_000;

export class Reader {
  /** A promise of what the last attempt came to: see `keep`. It is rejected with what the fetcher throws. */
  result;
  #books;
  #fetcher;
  #options;
  #left;
  /** The basis of the attempt that is under way; undefined between two. */
  #basis;
  #abort;
  /** Another attempt is to follow, whatever this one brings. */
  #again = false;
  /** Tags that were touched since the attempt began, at nobody knows which position. */
  #doubted = [];
  #end;
  #ended = new Promise((_, reject) => (this.#end = reject));

  /**
   * `books` has `begin()`, a promise of the basis; `keep(reading, basis)`, a promise of 'settled', 'raced' (a mutation came between)
   * or 'behind' (the origin was behind); and `isTouched(tags, basis)`, whether such a reading is sure to be too old. The last of `tries`
   * attempts is never broken off, so that there is something to show after all of them.
   */
  constructor(books, fetcher, { tags, tries = TRIES, timeout = TIMEOUT_MS, timers }) {
    this.#books = books;
    this.#fetcher = fetcher;
    this.#options = { tags, timeout, timers };
    this.#left = tries;
    this.#ended.catch(() => {});
    this.result = this.#run();
  }

  /** Begins again, if what is on its way is known to be too old for a value with these tags. */
  hurry(tags) {
    if (this.#basis && this.#books.isTouched([...(this.#options.tags ?? []), ...(tags ?? [])], this.#basis)) this.again();
  }

  /** These tags were touched at nobody knows which position: begins again, as soon as it is clear that the value has one of them. */
  doubt(touched) {
    if (this.#basis === undefined) return;
    this.#doubted.push(...touched);
    if (this.isVain(this.#options.tags)) this.again();
  }

  /** Begins again. False where that would be one attempt too many; nothing is to be done where the next one is yet to begin. */
  again() {
    if (this.#basis === undefined) return true;
    if (this.#left <= 1) return false;
    this.#again = true;
    this.#abort.abort();
    return true;
  }

  /** Whether a reading with these tags is too old for a program that knows more than the server. */
  isVain(tags) {
    return this.#again || this.#doubted.some((touched) => tags?.some((tag) => overlap(tag, touched)));
  }

  /** Nobody wants it any more. */
  end() {
    this.#end(new TidingsError('not_read', 'the value is not wanted any more', true));
    this.#abort?.abort();
  }

  async #run() {
    let outcome;
    do {
      outcome = await Promise.race([this.#attempt(), this.#ended]);
      this.#basis = undefined;
    } while (outcome !== 'settled' && --this.#left);
    return outcome;
  }

  async #attempt() {
    this.#again = false;
    this.#doubted = [];
    const basis = await Promise.race([this.#books.begin(), this.#ended]);
    this.#basis = basis;
    const reading = await this.#fetch(basis);
    const outcome = reading ? await this.#books.keep(reading, basis) : 'raced';
    return this.#again ? 'raced' : outcome;
  }

  /** The reading; undefined where it was broken off, unless the fetcher brings it all the same. */
  async #fetch(basis) {
    const { tags, timeout, timers } = this.#options;
    const { signal } = (this.#abort = new AbortController());
    let timer;
    const late = new Promise((_, reject) => {
      const fail = () => {
        reject(new TidingsError('read_timed_out', `the fetcher gave nothing within ${timeout} ms`, true));
        this.#abort.abort();
      };
      timer = later(timers, fail, timeout);
    });
    // A response that a cache on the way kept is as old as it likes, unless it is asked about.
    const headers = basis ? { 'Tidings-Min': `${basis.epoch}.${basis.offset}` } : {};
    const read = async () => readingFrom(await this.#fetcher({ basis, signal, headers, cache: 'no-cache' }));
    try {
      return (await Promise.race([read(), late, this.#ended])).with(tags);
    } catch (error) {
      if (!this.#again) throw error;
    } finally {
      timers.clearTimeout(timer);
    }
  }
}
