/** The values that a cache keeps over a restart. What fails there is an `error` event, and nothing else. */
import { TidingsError } from './errors.js';

/** So many values are taken over without a pause, and asked about together: a page goes on painting while ten thousand are loaded. */
const CHUNK = 250;
const GROUP = 4 * CHUNK;

/** Nobody waits longer for what is loaded. */
const PATIENCE_MS = 1_000;

export class Persisted {
  #persist;
  #options;
  /** The last `save` failed: that was said, and is not said again before one succeeded. */
  #failed = false;

  /** `persist` has `load()` and `save(key, entry)`, which may give promises. */
  constructor(persist, options) {
    this.#persist = persist;
    this.#options = options;
  }

  /**
   * Hands what was kept to `restore(key, entry)` within `collect(work)`; a promise of the end, or of the moment when waiting for it is
   * not worth it.
   */
  load(restore, collect) {
    if (!this.#persist) return Promise.resolve();
    const { timers } = this.#options;
    return new Promise((resolve) => {
      const timer = timers.setTimeout(resolve, PATIENCE_MS);
      this.#load(restore, collect).catch((cause) => this.#report('load', cause)).then(() => {
        timers.clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Keeps `{value, tags, basis, except}`, or null for a value that is gone. */
  save(key, entry) {
    const fail = (cause) => {
      if (!this.#failed) this.#report('save', cause);
      this.#failed = true;
    };
    try {
      const saved = this.#persist?.save(key, entry);
      if (saved?.then) saved.then(() => (this.#failed = false), fail);
      else this.#failed = false;
    } catch (cause) {
      fail(cause);
    }
  }

  async #load(restore, collect) {
    const loaded = [...(await this.#persist.load())];
    for (let group = 0; group < loaded.length; group += GROUP) {
      await collect(() => this.#restore(loaded.slice(group, group + GROUP), restore));
    }
  }

  async #restore(loaded, restore) {
    for (const [i, [key, entry]] of loaded.entries()) {
      if (i % CHUNK === CHUNK - 1) await new Promise((resolve) => this.#options.timers.setTimeout(resolve, 0));
      try {
        restore(key, entry);
      } catch (cause) {
        this.#report('load', cause);
      }
    }
  }

  #report(what, cause) {
    const message = `persist.${what} failed: ${cause?.message ?? cause}; values are kept in memory only`;
    this.#options.report(new TidingsError('persist_failed', message, true, cause));
  }
}
