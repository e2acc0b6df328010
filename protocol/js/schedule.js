/** When a value that somebody looks at and that is not fresh is read again. */
import { backoff } from './backoff.js';
import { later } from './timing.js';

export class Schedule {
  #log;
  #options;
  #cache;

  /** `cache` has `isFresh(entry)`, `isOpen(entry)`, `settle(entry)` and `read(entry)`. */
  constructor(log, options, cache) {
    this.#log = log;
    this.#options = options;
    this.#cache = cache;
  }

  /** Plans what is to happen to an entry by the passing of time, as it is now. */
  plan(entry) {
    this.#expire(entry);
    const due = this.#due(entry);
    // What is planned stays planned: whoever changes it with every event would put it off for ever.
    if (due && entry.plan?.kind === due.kind) return;
    this.#clear(entry.plan);
    entry.plan = due && { kind: due.kind, timer: this.#later(() => this.#read(entry), due.in) };
  }

  /** Nothing is to happen. */
  cancel(entry) {
    this.#clear(entry.plan);
    this.#clear(entry.expiry);
    entry.plan = entry.expiry = null;
  }

  /** In how many ms the entry is to be read, and why then; null where it is not. */
  #due(entry) {
    const { now, leased } = this.#log;
    const isSeen = entry.fetcher && entry.wanting && !this.#options.window?.document?.hidden;
    if (!isSeen || entry.reader || this.#cache.isFresh(entry)) return null;
    if (entry.isUntagged) {
      const { ttl = Infinity } = entry.policy;
      return ttl < Infinity ? { kind: 'ttl', in: entry.triedAt + ttl - now } : null;
    }
    const soon = this.#soon(entry, now);
    if (!leased || entry.isRefused || this.isDenied(entry)) return { kind: 'rest', in: Math.max(entry.restsUntil - now, soon) };
    return this.#cache.isOpen(entry) ? null : { kind: 'soon', in: soon };
  }

  #soon({ failures, lostAt, calm, spreadMs }, now) {
    const { random } = this.#options;
    return failures ? backoff(failures, random) : Math.max(spreadMs * random(), lostAt + calm - now);
  }

  /** Whether one of its tags may not be watched: by reading it again it does not become fresh. */
  isDenied(entry) {
    const { ledger, leased, now } = this.#log;
    return leased && entry.tracked && ledger.check(entry.key, now) === 'unknown' && !ledger.isAsked(entry.key);
  }

  #read(entry) {
    entry.plan = null;
    if (this.#cache.isFresh(entry)) return;
    const { refetch } = entry.wanting ?? {};
    if (typeof refetch === 'function') refetch();
    else this.#cache.read(entry);
  }

  /** Looks again when the value stops being fresh by its `ttl`. */
  #expire(entry) {
    const at = entry.readAt + (entry.policy.ttl ?? Infinity);
    const isDue = entry.has && at < Infinity && at > this.#log.now;
    if (isDue && entry.expiry?.at === at) return;
    this.#clear(entry.expiry);
    const end = () => {
      entry.expiry = null;
      this.#cache.settle(entry);
    };
    entry.expiry = isDue ? { at, timer: this.#later(end, at - this.#log.now) } : null;
  }

  #later(then, ms) {
    return later(this.#options.timers, then, Math.max(ms, 0));
  }

  #clear(planned) {
    this.#options.timers.clearTimeout(planned?.timer);
  }
}
