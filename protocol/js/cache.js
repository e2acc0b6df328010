/**
 * A cache that is never stale without saying so: every value that it shows is labelled, and `fresh` means that the books
 * (`ledger.js`) vouch for it.
 *
 * It owns the values; `reader.js` reads them, again where a mutation came between; `logs.js` carries what the books ask for.
 */
import { backoff } from './backoff.js';
import { Entry } from './entry.js';
import { Reader } from './reader.js';
import { Reading, mutationFrom } from './reading.js';

const DEFAULTS = {
  /** As many values as a server lets one connection watch tags. */
  maxEntries: 10_000,
  /** Without a lease a value is read again this often at most, in ms. */
  degradedTtl: 30_000,
  /** Keeps values over a restart: `save(key, {value, tags, basis})`, or null for one that is gone. */
  persist: { load: () => [], save: () => {} },
};

/** How long a value waits for a word about it, before it is read again instead. */
const PATIENCE_MS = 1_000;

export class Cache {
  #log;
  #options;
  /** key → Entry, the one that was used last at the end. */
  #entries = new Map();
  /** Entries that somebody listens to. */
  #shown = new Set();
  /** Entries that are being read. */
  #busy = new Set();
  /** Whoever waits for a word: {isOpen, done}. */
  #waiting = new Set();
  #timer;
  #loaded;

  constructor(log, options) {
    this.#log = log;
    this.#options = { ...DEFAULTS, ...options };
    log.attach({
      told: (effect, spreadMs) => this.#told(effect, spreadMs),
      settle: () => this.#settle(),
      close: () => this.#close(),
    });
    this.#loaded = this.#load();
  }

  /**
   * The value of `key` as `{value, state}`, where the state is 'fresh' or 'stale'; `fetcher` reads it where that is needed.
   *
   * `policy`: `tags` that the value depends on, beside those that it brings; `ttl` in ms, after which it is not fresh whatever
   * is known; `swr` to be given a stale value at once, while it is read again; `strict` to wait all the same, where the
   * cache's default is `swr`; `force` to read in any case. Rejects with what `fetcher` throws.
   */
  async get(key, fetcher, policy = {}) {
    await this.#loaded;
    const entry = this.#use(key);
    const { swr, ttl } = this.#options;
    Object.assign(entry, { fetcher, policy: { swr, ttl, ...policy } });
    if (policy.force) return this.#read(entry);
    const revalidated = this.#revalidate(entry);
    if (!entry.has || !entry.policy.swr || entry.policy.strict) return revalidated;
    revalidated.catch(() => {}); // Whoever listens is told; the next one asks again.
    return this.#view(entry);
  }

  /** What is held under `key`, as it is now; undefined where nothing is. */
  peek(key) {
    const entry = this.#entries.get(key);
    return entry?.has ? this.#view(entry) : undefined;
  }

  /**
   * Calls `listener({value, state, error})` now, if there is a value, and whenever it or its state changes. While somebody
   * listens and `wanted()`, a value that became stale is read again by the fetcher of the last `get`, or else by `refetch()`,
   * if that is a function; not so with `refetch: false`. Returns the function that ends it.
   */
  subscribe(key, listener, { refetch = true, wanted = () => refetch !== false } = {}) {
    const entry = this.#use(key);
    const listening = { listener, refetch, wanted, view: undefined };
    entry.listeners.add(listening);
    this.#shown.add(entry);
    this.#settle();
    return () => {
      entry.listeners.delete(listening);
      if (!entry.listeners.size) this.#shown.delete(entry);
      this.#settle();
    };
  }

  /** Holds a value that no fetcher read, such as what a mutation answered: with its tags and basis. False if it is too old. */
  set(key, value, { tags, basis }) {
    const entry = this.#use(key);
    const reading = new Reading(value, { tags, basis });
    const isKept = this.#enter(entry, reading, reading.basis) === 'kept';
    if (isKept) this.#hold(entry, reading, reading.basis, this.#log.now);
    return isKept;
  }

  /**
   * A mutation of this program's own was acknowledged: `{tags, position}`, or the `Response`, whose headers
   * `Cache-Group-Invalidation` and `Tidings-Basis` say so. What it touched is stale from here on.
   */
  mutated(answer) {
    const { tags, position } = mutationFrom(answer);
    const at = position ?? this.#log.ledger.horizon;
    if (!tags.length || !at) return;
    const reset = { scope: 'tags', tags, at, reason: 'admin' };
    this.#log.change((ledger) => (position ? ledger.mutated(at, tags) : ledger.handle({ reset })));
    // Without a position nobody knows which reads on their way came before.
    if (!position) for (const { reader } of this.#busy) reader.again();
  }

  /** Forgets the value of `key`. */
  forget(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#log.change((ledger) => ledger.forget(key));
    this.#empty(entry);
    if (!entry.listeners.size) this.#entries.delete(key);
    this.#settle();
  }

  async #load() {
    try {
      for (const [key, { value, tags, basis }] of await this.#options.persist.load()) {
        if (!this.#entries.get(key)?.has) this.set(key, value, { tags, basis });
      }
    } catch (error) {
      this.#options.report(error);
    }
  }

  /** The entry of `key`, which is the last one to be dropped from now on. */
  #use(key) {
    const entry = this.#entries.get(key) ?? new Entry(key);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > this.#options.maxEntries) this.#evict();
    return entry;
  }

  #evict() {
    for (const [key, { listeners, reader }] of this.#entries) {
      if (this.#entries.size <= this.#options.maxEntries) return;
      if (!listeners.size && !reader) this.forget(key);
    }
  }

  #view(entry) {
    const { value, error } = entry;
    return { value, state: this.#isFresh(entry) ? 'fresh' : 'stale', ...(error && { error }) };
  }

  #isFresh({ key, tracked, readAt, policy }) {
    const { now, ledger } = this.#log;
    return tracked && now - readAt < (policy.ttl ?? Infinity) && ledger.check(key, now) === 'fresh';
  }

  /** Waits for a word about the value, and reads it if it is not fresh then. */
  async #revalidate(entry) {
    if (entry.has && !this.#isFresh(entry)) await this.#wait(() => this.#isOpen(entry));
    if (entry.has && (this.#isFresh(entry) || !this.#mayRead(entry))) return this.#view(entry);
    return this.#read(entry);
  }

  /** Whether a word about the value is to be expected. */
  #isOpen({ key, tracked }) {
    const { ledger, now, leased, reachable } = this.#log;
    return tracked && reachable && ledger.check(key, now) === 'unknown' && (!leased || ledger.isAsked(key));
  }

  /** Without a lease nothing that is read becomes fresh, and everybody would ask the origin all the time. */
  #mayRead({ triedAt }) {
    return this.#log.leased || this.#log.now - triedAt >= this.#options.degradedTtl;
  }

  /** Reads the value; whoever comes while it is read gets the same. */
  #read(entry) {
    if (!entry.reader) this.#begin(entry);
    return entry.reader.result;
  }

  #begin(entry) {
    const books = {
      begin: async () => {
        await this.#wait(() => !entry.policy.swr && this.#log.reachable && !this.#log.leased);
        entry.triedAt = this.#log.now;
        return this.#log.ledger.begin(entry.triedAt);
      },
      keep: (reading, begun) => this.#keep(entry, reading, begun),
      isVain: (tags, basis) => this.#log.ledger.isTouched(tags, basis),
    };
    const reader = (entry.reader = new Reader(books, entry.fetcher, entry.policy.tags));
    this.#busy.add(entry);
    reader.result = this.#finish(entry, reader);
  }

  async #finish(entry, reader) {
    try {
      const reading = await reader.done;
      entry.error = undefined;
      // Better than nothing, and labelled. What was forgotten meanwhile stays so.
      if (!entry.has && entry.reader === reader) this.#hold(entry, reading, null, entry.triedAt);
      return entry.value === reading.value ? this.#view(entry) : { value: reading.value, state: 'stale' };
    } catch (error) {
      entry.error = error;
      throw error;
    } finally {
      if (entry.reader === reader) this.#rest(entry);
      // Without a lease nothing can be fresh, and nobody is in a hurry.
      entry.failures = this.#isFresh(entry) || !this.#log.leased ? 0 : entry.failures + 1;
      this.#settle();
    }
  }

  /** Takes what was read, as soon as there is a verdict. Whether nothing is to be read again. */
  async #keep(entry, reading, begun) {
    const { key, triedAt, reader } = entry;
    const basis = reading.basis ?? begun;
    const outcome = this.#enter(entry, reading, basis);
    if (outcome === 'touched') return false;
    if (outcome === 'older') return true;
    await this.#wait(() => this.#isOpen({ key, tracked: outcome === 'kept' }));
    if (entry.reader !== reader) return true;
    this.#hold(entry, reading, outcome === 'kept' ? basis : null, triedAt);
    return this.#log.ledger.check(key, this.#log.now) !== 'stale';
  }

  /** Enters a reading into the books, which speak of a value from then on that nobody is shown yet. */
  #enter(entry, { tags }, basis) {
    return this.#log.change((ledger) => {
      const outcome = ledger.stored(entry.key, tags, { told: basis });
      if (outcome === 'kept') Object.assign(entry, { tags, tracked: false });
      return outcome;
    });
  }

  /** Holds a value; one that is in the books with a basis. */
  #hold(entry, { value, tags }, basis, readAt) {
    Object.assign(entry, { value, tags, readAt, has: true, tracked: basis !== null });
    if (basis) this.#options.persist.save(entry.key, { value, tags, basis });
    else this.#log.change((ledger) => ledger.forget(entry.key));
    this.#settle();
  }

  #rest(entry) {
    entry.reader = null;
    this.#busy.delete(entry);
  }

  #empty(entry) {
    entry.reader?.end();
    this.#rest(entry);
    this.#options.timers.clearTimeout(entry.plan?.timer);
    Object.assign(entry, { value: undefined, has: false, tracked: false, plan: null });
    this.#options.persist.save(entry.key, null);
  }

  #told(effect, spreadMs) {
    const entry = this.#entries.get(effect.stale ?? effect.forget);
    if (!entry) return;
    if (effect.forget !== undefined) return this.#empty(entry);
    entry.spreadMs = spreadMs;
  }

  /** Something may have changed what is fresh: shows it, lets whoever waited go on, and plans what is to be read again. */
  #settle() {
    for (const { reader, tags } of this.#busy) reader.hurry(tags);
    for (const waiter of this.#waiting) if (!waiter.isOpen()) waiter.done();
    for (const entry of [...this.#shown]) {
      entry.show(this.#view(entry), this.#options.call);
      this.#plan(entry);
    }
    this.#wake();
  }

  /** A promise of the moment when `isOpen()` is not so any more; or of one second from now. */
  #wait(isOpen) {
    if (!isOpen()) return undefined;
    const { timers } = this.#options;
    this.#log.ask();
    return new Promise((resolve) => {
      const done = () => {
        timers.clearTimeout(timer);
        this.#waiting.delete(waiter);
        resolve();
      };
      const waiter = { isOpen, done };
      const timer = timers.setTimeout(done, PATIENCE_MS);
      this.#waiting.add(waiter);
    });
  }

  /** What somebody looks at and is not fresh is read again: soon under a lease, and now and then without one. */
  #plan(entry) {
    const { timers, random, window, degradedTtl } = this.#options;
    const isSeen = entry.fetcher && entry.wanting && !window?.document?.hidden && !entry.reader;
    const soon = this.#log.leased;
    const isDue = isSeen && !this.#isFresh(entry) && !(soon && this.#isOpen(entry));
    if (isDue && entry.plan?.soon === soon) return;
    timers.clearTimeout(entry.plan?.timer);
    entry.plan = null;
    if (!isDue) return;
    const delay = entry.failures ? backoff(entry.failures, random) : entry.spreadMs * random();
    const rest = entry.triedAt + degradedTtl - this.#log.now;
    const read = () => {
      entry.plan = null;
      if (this.#isFresh(entry)) return;
      const { refetch } = entry.wanting ?? {};
      if (typeof refetch === 'function') refetch();
      else this.#read(entry).catch(() => {}); // Whoever listens is shown the error.
    };
    entry.plan = { soon, timer: timers.setTimeout(read, soon ? delay : Math.max(rest, delay)) };
  }

  /** Settles again when the next thing that is shown stops being fresh by the passing of time. */
  #wake() {
    const { timers } = this.#options;
    timers.clearTimeout(this.#timer);
    const { now, ledger } = this.#log;
    const ends = [...this.#shown].map(({ readAt, policy }) => readAt + (policy.ttl ?? Infinity));
    const next = Math.min(...[...(this.#shown.size ? [ledger.leaseUntil] : []), ...ends].filter((end) => end > now));
    if (next < Infinity) this.#timer = timers.setTimeout(() => this.#settle(), next - now);
  }

  #close() {
    this.#options.timers.clearTimeout(this.#timer);
    for (const waiter of this.#waiting) waiter.done();
    for (const entry of this.#entries.values()) {
      this.#options.timers.clearTimeout(entry.plan?.timer);
      entry.reader?.end();
      entry.listeners.clear();
    }
    this.#shown.clear();
  }
}
