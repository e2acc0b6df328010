/**
 * One read of a value by its fetcher, begun again where a mutation came between: what is read before a mutation and arrives after
 * it is never taken for what follows it.
 */
import { TidingsError } from './errors.js';
import { readingFrom } from './reading.js';

/** Whoever loses so many races shows what there is, and says that it is stale. */
const TRIES = 3;

export class Reader {
  /** A promise of the last reading, which may not have been kept. */
  done;
  #books;
  #fetcher;
  #tags;
  #basis = null;
  #abort;
  #ended = false;

  /**
   * `books` has `begin()`, a promise of the basis; `keep(reading, basis)`, a promise of whether that settles it; `isVain(tags,
   * basis)`, whether such a read will be refused. `tags` are known before the value is.
   */
  constructor(books, fetcher, tags = []) {
    this.#books = books;
    this.#fetcher = fetcher;
    this.#tags = tags;
    this.done = this.#run();
  }

  /** Begins again, if what is on its way is known to be too old. */
  hurry(tags) {
    if (this.#basis && this.#books.isVain([...this.#tags, ...tags], this.#basis)) this.again();
  }

  /** Begins again, whatever is on its way. */
  again() {
    this.#abort?.abort();
  }

  /** Nobody wants it any more. */
  end() {
    this.#ended = true;
    this.again();
  }

  async #run() {
    let last;
    for (let attempt = 0; attempt < TRIES && !this.#ended; attempt++) {
      const { signal } = (this.#abort = new AbortController());
      this.#basis = await this.#books.begin();
      const reading = await this.#fetch(signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
      last = reading ?? last;
      // Whoever does not look at the signal comes back with what is too old all the same.
      if (!signal.aborted && (await this.#books.keep(reading, this.#basis))) break;
    }
    return last && !this.#ended ? last : this.#fail();
  }

  async #fetch(signal) {
    const basis = this.#basis;
    const headers = basis ? { 'Tidings-Min': `${basis.epoch}.${basis.offset}` } : {};
    // A response that a cache on the way kept is as old as it likes, unless it is asked about.
    const given = await this.#fetcher({ basis, signal, headers, cache: 'no-cache' });
    return (await readingFrom(given)).with(this.#tags);
  }

  #fail() {
    throw new TidingsError('not_read', `the value changed ${TRIES} times while it was read, or is not wanted any more`, true);
  }
}
