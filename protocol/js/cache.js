/**
 * A cache that is never stale without saying so: every value that it shows is labelled, and `fresh` means that the ledger
 * (`ledger.js`) vouches for it.
 *
 * It owns the values; `reader.js` reads them, again where a mutation came between; `schedule.js` says when those that are looked at
 * are read again; `log.js` carries what the ledger asks for.
 */
import { Entries } from './entries.js';
import { Entry } from './entry.js';
import { TidingsError, noTags } from './errors.js';
import { Patience } from './patience.js';
import { Persisted } from './persisted.js';
import { isBefore } from './position.js';
import { Reader } from './reader.js';
import { Reading, mutationFrom } from './reading.js';
import { Schedule } from './schedule.js';
import { covers, overlap } from './tag.js';

const DEFAULTS = {
  /** As many values as a server lets one connection watch tags. */
  maxEntries: 10_000,
  /** Without a lease a value is read again this often at most, in ms. */
  degradedTtl: 30_000,
};

export class Cache {
  #log;
  #options;
  #entries;
  /** Entries that somebody listens to. */
  #shown = new Set();
  /** Entries that are being read. */
  #busy = new Set();
  /** Entries of which something changed since they were settled last. */
  #changed = new Set();
  /** Reads and `set`s are numbered as they begin. */
  #numbers = 0;
  #patience;
  #persisted;
  #schedule;
  #loaded;
  #closed = false;

  constructor(log, options) {
    this.#log = log;
    this.#options = { ...DEFAULTS, ...options };
    this.#entries = new Entries(this.#options.maxEntries);
    this.#patience = new Patience(options.timers);
    this.#persisted = new Persisted(options.persist, options);
    this.#schedule = new Schedule(log, this.#options, {
      isFresh: (entry) => this.#isFresh(entry),
      isOpen: (entry) => this.#isOpen(entry),
      settle: (entry) => this.#settleOne(entry),
      read: (entry) => this.#read(entry),
    });
    log.attach({
      told: (effect, spreadMs) => this.#told(effect, spreadMs),
      touched: () => this.#hurry(),
      revoked: (tags) => this.#revoked(tags),
      settle: (all) => this.#settle(all),
      close: () => this.#close(),
    });
    this.#loaded = this.#load();
  }

  /**
   * The value of `key` as `{value, state}`, where the state is 'fresh' or 'stale'; `fetcher` reads it where that is needed.
   *
   * `policy`: `tags` that the value depends on, beside those that it brings; `ttl` in ms, after which it is not fresh whatever
   * is known; `timeout` in ms, after which a read has failed; `swr` to be given a stale value at once, while it is read again; `strict`
   * to wait all the same, where the cache's default is `swr`; `force` to read in any case. What is not said stays as the last `get` of
   * the key said it. Rejects with what `fetcher` throws.
   */
  async get(key, fetcher, policy = {}) {
    await this.#loaded;
    const entry = this.#use(key);
    entry.fetcher = fetcher;
    for (const name of ['ttl', 'tags', 'timeout']) if (policy[name] !== undefined) entry.policy[name] = policy[name];
    if (policy.force) return this.#force(entry);
    const revalidated = this.#revalidate(entry);
    if (!entry.has || policy.strict || !(policy.swr ?? this.#options.swr)) return revalidated;
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
    this.#settleOne(entry);
    return () => {
      entry.listeners.delete(listening);
      if (entry.listeners.size) return this.#settleOne(entry);
      this.#shown.delete(entry);
      this.#schedule.cancel(entry);
    };
  }

  /**
   * Shows a value that no fetcher read, such as what a mutation answered: `basis` is the position before its transaction began, and
   * `except` that of the mutation, which the value reflects. True if it may be called fresh by that; without a basis, or where
   * something newer is known, it is shown as stale at most, and read again.
   */
  set(key, value, source = {}) {
    const entry = this.#use(key);
    const reading = new Reading(value, source);
    const attempt = this.#attempt(reading.basis);
    const isKept = this.#enter(entry, reading, attempt) === 'kept';
    if (!isKept) entry.reader?.again(); // What is on its way began before.
    if (isKept || this.#isNewest(entry, attempt)) this.#hold(entry, reading, attempt, isKept);
    return isKept;
  }

  /**
   * A mutation of this program's own was acknowledged: `{tags, position}`, or the `Response`, whose headers
   * `Cache-Group-Invalidation` and `Tidings-Mutation` say so. What it touched is stale from here on. Gives the `{basis, except}`
   * for `set` of what the answer shows; the basis is that of the header `Tidings-Basis`.
   */
  mutated(answer) {
    const { tags, position, basis } = mutationFrom(answer);
    if (!tags.length && !answer.tags) {
      const message = 'the answer to a mutation names no tags: send Cache-Group-Invalidation, and let pages of other origins read it';
      this.#options.report(new TidingsError('no_tags', message));
    }
    if (tags.length && position) {
      this.#log.change((ledger) => ledger.mutated(position, tags));
      this.#hurry();
    } else if (tags.length) {
      this.#doubt(tags);
    }
    return { basis: basis ?? undefined, except: position ?? undefined };
  }

  /** Forgets the value of `key`. */
  forget(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.reader?.end();
    this.#rest(entry);
    this.#empty(entry);
    if (!entry.listeners.size) this.#entries.delete(key);
    this.#settleOne(entry);
  }

  #load() {
    return this.#persisted.load((key, { value, ...source }) => {
      const entry = this.#use(key);
      if (entry.number || this.#closed) return;
      const reading = new Reading(value, source);
      this.#log.grant(reading.tags ?? []);
      // Whatever is being read began later.
      const attempt = { ...this.#attempt(reading.basis), number: 0 };
      const isKept = this.#enter(entry, reading, attempt) === 'kept';
      this.#hold(entry, reading, attempt, isKept, { save: false });
    }, (work) => this.#log.collect(work));
  }

  /** The entry of `key`, which is the last one to be dropped from now on. */
  #use(key) {
    return this.#entries.use(key, () => new Entry(key, { ttl: this.#options.ttl }), (entry) => this.forget(entry.key));
  }

  #view(entry) {
    const { value, error } = entry;
    return { value, state: this.#isFresh(entry) ? 'fresh' : 'stale', ...(error && { error }) };
  }

  #isFresh({ key, tracked, readAt, policy }) {
    if (!tracked) return false;
    const { now, ledger } = this.#log;
    return now - readAt < (policy.ttl ?? Infinity) && ledger.check(key, now) === 'fresh';
  }

  /** Waits for a word about the value, and reads it if it is not fresh then. */
  async #revalidate(entry) {
    if (entry.has && !this.#isFresh(entry)) await this.#wait(entry, () => this.#isOpen(entry));
    if (entry.has && (this.#isFresh(entry) || !this.#mayRead(entry))) return this.#view(entry);
    return this.#read(entry);
  }

  /** Whether a word about the value is to be expected. */
  #isOpen({ key, tracked }) {
    if (!tracked) return false;
    const { ledger, now, reachable } = this.#log;
    return reachable && ledger.check(key, now) === 'unknown' && (now >= ledger.leaseUntil || ledger.isAsked(key));
  }

  /** Without a lease nothing that is read becomes fresh, and everybody would ask the origin all the time; what has no tags has its `ttl`. */
  #mayRead({ isUntagged, triedAt, restsUntil, policy: { ttl = 0 } }) {
    const { now, leased } = this.#log;
    return (leased || now >= restsUntil) && !(isUntagged && ttl < Infinity && now - triedAt < ttl);
  }

  #wait(entry, isOpen) {
    const waited = this.#patience.wait(entry, isOpen);
    if (waited) this.#log.ask();
    return waited;
  }

  /** Reads the value; whoever comes while it is read gets the same. */
  #read(entry) {
    if (!entry.reader) this.#begin(entry);
    return entry.result;
  }

  /** Reads the value, by an attempt that begins from now on. */
  #force(entry) {
    const { reader, result } = entry;
    if (!reader || reader.again()) return this.#read(entry);
    // What is on its way cannot be broken off once more: the next read is for all who come meanwhile.
    const next = () => {
      entry.next = undefined;
      return this.#read(entry);
    };
    return (entry.next ??= result.then(next, next));
  }

  #begin(entry) {
    const { now } = this.#log;
    const books = {
      begin: async () => {
        await this.#wait(entry, () => this.#log.reachable && !this.#log.leased);
        const { now } = this.#log;
        entry.triedAt = now;
        entry.restsUntil = now + this.#options.degradedTtl * (0.5 + this.#options.random());
        entry.attempt = this.#attempt(entry.reached(this.#log.ledger.begin(now)));
        return entry.attempt.basis;
      },
      keep: (reading, begun) => this.#keep(entry, reader, reading, begun),
      isTouched: (tags, basis) => this.#log.ledger.isTouched(tags, basis),
    };
    // One that lost all its races of late is not broken off: it would only take longer to lose again.
    const tries = now < entry.lostAt + 2 * entry.calm ? 1 : undefined;
    const reader = new Reader(books, entry.fetcher, { ...entry.policy, tries, timers: this.#options.timers });
    entry.reader = reader;
    entry.result = this.#finish(entry, reader);
    entry.result.catch(() => {}); // Whoever listens is shown the error.
    this.#busy.add(entry);
  }

  async #finish(entry, reader) {
    const isCurrent = () => entry.reader === reader;
    try {
      const outcome = await reader.result;
      if (isCurrent()) entry.ended(outcome, this.#log);
      return this.#view(entry);
    } catch (error) {
      if (isCurrent()) entry.failed(error, this.#log);
      if (entry.isRefused) this.#empty(entry);
      throw error;
    } finally {
      if (isCurrent()) this.#rest(entry);
      this.#settleOne(entry);
    }
  }

  /** Takes what was read, as soon as there is a verdict: see `Reader`. */
  async #keep(entry, reader, reading, begun) {
    const attempt = { ...entry.attempt, basis: reading.basis ?? begun };
    const outcome = reader.isVain(reading.tags) ? 'touched' : this.#enter(entry, reading, attempt);
    if (outcome === 'kept' && this.#isOpen({ key: entry.key, tracked: true })) {
      this.#settleOne(entry);
      await this.#wait(entry, () => this.#isOpen({ key: entry.key, tracked: true }));
    }
    if (entry.reader !== reader || !this.#isNewest(entry, attempt)) return 'settled';
    const isVain = reader.isVain(reading.tags);
    this.#hold(entry, reading, attempt, outcome === 'kept' && !isVain);
    const isStale = isVain || outcome === 'touched' || this.#log.ledger.check(entry.key, this.#log.now) === 'stale';
    if (!isStale) return 'settled';
    // The origin may have read before what was known to be touched when it was asked.
    const isRaced = isVain || !isBefore(reading.basis, begun) || this.#log.ledger.isTouched(reading.tags, begun);
    return isRaced ? 'raced' : 'behind';
  }

  /** What begins now: {number, basis, at}. */
  #attempt(basis) {
    return { number: ++this.#numbers, basis, at: this.#log.now };
  }

  /** Enters a reading into the ledger, which speaks of a value from then on that nobody is shown yet. */
  #enter(entry, { tags, except }, { number, basis }) {
    if (!tags) return 'no_tags';
    return this.#log.change((ledger) => {
      const outcome = ledger.stored(entry.key, tags, { told: basis, except });
      if (outcome === 'kept') Object.assign(entry, { tags, number, tracked: false });
      return outcome;
    });
  }

  /** Whether there is nothing newer: what began later, or is known to be read at a later position. */
  #isNewest(entry, attempt) {
    return attempt.number >= entry.number && !(entry.has && isBefore(attempt.basis, entry.reflects));
  }

  /** Holds a value: one that the ledger speaks of, or one that is stale. */
  #hold(entry, { value, tags, except }, { number, basis, at }, isKept, { save = true } = {}) {
    const reflects = except ?? basis;
    if (!tags && !entry.isReported) this.#options.report(noTags(entry.key));
    entry.isReported ||= !tags;
    Object.assign(entry, { value, tags, number, reflects, readAt: at, has: true, tracked: isKept, error: undefined });
    if (isKept && save && !this.#schedule.isDenied(entry)) this.#persisted.save(entry.key, { value, tags, basis, except });
    this.#settleOne(entry);
  }

  #rest(entry) {
    entry.reader = null;
    this.#busy.delete(entry);
  }

  /** The value is gone. */
  #empty(entry) {
    this.#log.change((ledger) => ledger.forget(entry.key));
    this.#schedule.cancel(entry);
    Object.assign(entry, { value: undefined, has: false, tracked: false, reflects: null, number: ++this.#numbers });
    this.#persisted.save(entry.key, null);
    this.#changed.add(entry);
  }

  #told({ stale, proven, forget }, spreadMs) {
    this.#patience.hope();
    const entry = this.#entries.get(stale ?? proven ?? forget);
    if (!entry) return;
    if (stale !== undefined) entry.spreadMs = spreadMs;
    if (forget !== undefined) this.#drop(entry);
    this.#changed.add(entry);
  }

  /** The value may not be seen any more. */
  #drop(entry) {
    entry.reader?.end();
    this.#rest(entry);
    this.#empty(entry);
  }

  #revoked(tags) {
    const isRevoked = (entry) => !tags || entry.tags?.some((tag) => tags.some((revoked) => covers(revoked, tag)));
    for (const entry of this.#entries.values()) if (entry.has && isRevoked(entry)) this.#drop(entry);
    this.#settle();
  }

  /** These tags were touched at nobody knows which position, so nothing is proven of what has them, nor is what is on its way. */
  #doubt(touched) {
    const isTouched = ({ tracked, tags }) => tracked && tags?.some((tag) => touched.some((other) => overlap(tag, other)));
    for (const entry of this.#entries.values()) {
      if (!isTouched(entry)) continue;
      entry.tracked = false;
      this.#persisted.save(entry.key, null);
      this.#changed.add(entry);
    }
    for (const { reader } of this.#busy) reader.doubt(touched);
    this.#settle();
  }

  #hurry() {
    for (const { reader, tags } of this.#busy) reader.hurry(tags);
  }

  #settleOne(entry) {
    this.#changed.add(entry);
    this.#settle();
  }

  /** Something may have changed what is fresh: shows it, lets whoever waited go on, and plans what is to be read again. */
  #settle(all = false) {
    const changed = all ? this.#shown : this.#changed;
    this.#changed = new Set();
    if (all) this.#patience.reviewAll();
    else for (const entry of changed) this.#patience.review(entry);
    for (const entry of [...changed]) {
      if (!entry.listeners.size) continue;
      entry.show(this.#view(entry), this.#options.call);
      this.#schedule.plan(entry);
    }
  }

  #close() {
    this.#closed = true;
    this.#patience.close();
    for (const entry of this.#entries.values()) {
      this.#schedule.cancel(entry);
      entry.reader?.end();
      entry.listeners.clear();
    }
    this.#shown.clear();
  }
}
