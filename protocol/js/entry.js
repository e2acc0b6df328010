import { isBefore } from './position.js';
import { isRefusal } from './reading.js';

/** A value that changes faster than it is read is read again after as long as it took to read, and at least this many ms. */
const CALM_MS = 1_000;

/** What a cache holds under one key: the value, how it is read, and who is shown it. */
export class Entry {
  value = undefined;
  /** Whether there is a value; `undefined` may be one. */
  has = false;
  /** Whether the ledger speaks of this very value. */
  tracked = false;
  /** null where nobody said what the value depends on. */
  tags = [];
  /** The number of what was held or entered the ledger last: what began before it is not shown any more. */
  number = 0;
  /** Up to where the value is known to reflect the log; null where nobody knows. */
  reflects = null;
  /** When the read of the value began, and when the last one did, on the client's clock. */
  readAt = -Infinity;
  triedAt = -Infinity;
  /** Without a lease the value is not read again before. */
  restsUntil = -Infinity;
  /** Reads in a row that failed, and what the last one threw. */
  failures = 0;
  error = undefined;
  /** The last read ended with the word that this user may not see the value. */
  isRefused = false;
  /** When the last read ended, if it lost all its races; the next one begins `calm` ms later. */
  lostAt = -Infinity;
  calm = 0;
  fetcher = null;
  reader = null;
  /** A promise of the view after the read that is under way. */
  result = null;
  /** What is being tried: {number, basis, at}. */
  attempt = null;
  /** A promise of the read after the one that is under way, where somebody asked for it. */
  next = undefined;
  /** The next read, where it waits for its time: {kind, timer}. */
  plan = null;
  /** When the value stops being fresh by its `ttl`: {at, timer}. */
  expiry = null;
  /** How long reads of what became stale are spread over, in ms. */
  spreadMs = 0;
  /** That it has no tags was reported. */
  isReported = false;
  /** Whoever waits for a verdict about the value. */
  waiters = new Set();
  /** {listener, refetch, wanted, view} */
  listeners = new Set();

  /** `policy` has `ttl`, `tags` and `timeout`. */
  constructor(key, policy) {
    this.key = key;
    this.policy = policy;
  }

  /** Whether a value is held of which nobody said what it depends on. */
  get isUntagged() {
    return this.has && this.tags === null;
  }

  /** One who sees the value and wants it fresh; undefined where nobody does. */
  get wanting() {
    return [...this.listeners].find(({ wanted }) => wanted());
  }

  /** The position that the log is known to have reached: `horizon`, or what the value reflects, if that is later. */
  reached(horizon) {
    return isBefore(horizon, this.reflects) ? this.reflects : horizon;
  }

  /** A read has ended, and brought a value; see `Reader` for the outcome. */
  ended(outcome, { now, leased }) {
    Object.assign(this, { error: undefined, isRefused: false, lostAt: -Infinity });
    // A lost race is nobody's failure, and the value is as new as it can be.
    if (outcome === 'raced') Object.assign(this, { lostAt: now, calm: Math.max(now - this.triedAt, CALM_MS) });
    const lacksBasis = outcome === 'settled' && !this.tracked && !this.isUntagged;
    this.failures = leased && (outcome === 'behind' || lacksBasis) ? this.failures + 1 : 0;
  }

  /** A read has ended, and threw. Without a lease nothing can be fresh, and nobody is in a hurry. */
  failed(error, { leased }) {
    Object.assign(this, { error, isRefused: isRefusal(error), failures: leased ? this.failures + 1 : 0 });
  }

  /** Shows `view` to those who saw another one last; `call(listener, view)` calls one. */
  show(view, call) {
    for (const listening of this.listeners) {
      const { view: last } = listening;
      const same = last && last.value === view.value && last.state === view.state && last.error === view.error;
      if (same || (!last && !this.has)) continue;
      listening.view = view;
      call(listening.listener, view);
    }
  }
}
