/**
 * The books of one mutation log: which cached values may be served without asking. The client's share of caches that are
 * never stale.
 *
 * It has no values, touches no socket, no timer and no clock. Of each value it knows the key, the tags, and the basis: the
 * log's position before the value was read. What the answer to an own mutation shows has a basis too, the position before the
 * transaction, and the position of that mutation as its exception: the value reflects it.
 *
 * After each call `changes()` gives what became of values: `{stale: key}` · `{proven: key}` · `{forget: key}` (the value may
 * not be shown any more; the books have forgotten it). Then, or later for many calls at once, `commands()` gives what is to be
 * sent: `{id, watch}` (`handle` its reply) · `{unwatch}`. `effects()` gives both.
 *
 * ```text
 *              stored              a tag was touched above its basis, or a reset
 *   (nothing) ────────▶ Unproven ────────────────────────────────────────────────▶ Stale
 *                        ▲    │ watched                                             ▲ │ stored
 *              connected │    ▼                                                     │ ▼
 *                       Valid ──────────────────────────────────────────────────────┘ Unproven, Valid
 * ```
 *
 * `now` is in whole ms, of a `LeaseClock`.
 */
import { Escalated } from './escalated.js';
import { Held, unknown } from './held.js';
import { Kept } from './kept.js';
import { Lease } from './lease.js';
import { Numbering } from './numbering.js';
import { Questions } from './questions.js';
import { Recent } from './recent.js';
import { covers, overlap } from './tag.js';

export class Ledger {
  #numbering = new Numbering();
  /** The last position told, in the present epoch. */
  #horizon = 0;
  /** Whatever was read before this is stale. */
  #floor = 0;
  #lease = new Lease();
  #connected = false;
  /** The last position told on this connection, in the present epoch. */
  #told = 0;
  /** key → Kept */
  #entries = new Map();
  #held = new Held();
  #recent = new Recent(this.#numbering);
  #escalated = new Escalated();
  #questions = new Questions(this.#held);
  /** Entries whose answers did not reach their exception yet. */
  #early = new Set();
  #changes = [];

  /** What is to be done since this was asked last. */
  effects() {
    return [...this.changes(), ...this.commands()];
  }

  /** What became of values since this was asked last, in order. */
  changes() {
    return this.#changes.splice(0);
  }

  /** What is to be sent since this was asked last, in order. */
  commands() {
    const isKept = (entry) => this.#entries.get(entry.key) === entry && !entry.stale;
    return this.#connected ? this.#questions.commands(isKept) : [];
  }

  /** The last position that was told; null before the first. */
  get horizon() {
    const { epoch } = this.#numbering;
    return epoch === null ? null : { epoch, offset: this.#horizon };
  }

  /** When the lease ends; 0 where there is none. */
  get leaseUntil() {
    return this.#lease.until;
  }

  /**
   * A connection whose `hello` gave this `lease_ms`. Everything is to be proven anew, and there is no lease yet: this server
   * may know less than the last one.
   */
  connected(leaseMs) {
    this.disconnected();
    this.#connected = true;
    this.#lease = new Lease(leaseMs);
    this.#told = 0;
    this.#escalated.clear();
    for (const known of this.#held.values()) Object.assign(known, { ...unknown(), version: known.version, entries: known.entries });
    this.#recent.connected();
    this.#doubt(() => true);
    this.#questions.askHead();
  }

  /** The connection is lost. What is valid stays so until the lease is over. */
  disconnected() {
    this.#connected = false;
    this.#questions.disconnected();
    this.#early.clear();
  }

  /** A `ping` with this `c` was sent on the present connection. */
  pinged(c) {
    this.#lease.pinged(c);
  }

  /** The basis of a read that starts now; null where nobody can tell one. */
  begin(now) {
    return now < this.#lease.until ? this.horizon : null;
  }

  /**
   * A value was read, with these tags: 'kept', 'touched' (read it again), 'older' than what is held, 'no_basis', or 'no_tags'
   * where nobody said on what it depends (null); what never changes has `[]`. Only what is kept changes the books.
   *
   * The basis that came with the value (`told`) counts before that of `begin`. `except` is the position of an own mutation that the
   * value reflects, because it is from the mutation's answer; the basis is then from before the transaction.
   */
  stored(key, tags, { begun = null, told = null, except = null }) {
    const basis = told ?? begun;
    if (!basis) return 'no_basis';
    if (!tags) return 'no_tags';
    if (this.isTouched(tags, basis, except)) return 'touched';
    const held = this.#entries.get(key);
    if (held?.isNewer(basis, except)) return 'older';
    const entry = new Kept(key, tags, basis, except, this.#numbering);
    this.#entries.set(key, entry);
    this.#escalated.hold(this.#held.hold(entry));
    if (held) this.#release(held);
    const offset = entry.except ? undefined : this.#numbering.offsetOf(entry.basis);
    for (const tag of tags) if (!(this.#held.get(tag).covered <= offset)) entry.unproven.add(tag);
    // An answer about some of the tags may overtake what is told of the others.
    if (entry.unproven.size < entry.tags.size) entry.provenAt = 0;
    this.#questions.ask(entry);
    return 'kept';
  }

  /** Whether a mutation is known, other than `except`, that a value with these tags and this basis does not reflect. */
  isTouched(tags, basis, except = null) {
    const offset = this.#numbering.offsetOf(basis);
    const own = except ? this.#numbering.offsetOf(except) : undefined;
    // An offset that is not known is not above anything.
    const isBefore = (version) => version > 0 && !(offset >= version);
    if (isBefore(this.#floor)) return true;
    if (tags.some((tag) => isBefore(this.#held.get(tag)?.version ?? 0) && this.#held.get(tag).version !== own)) return true;
    return this.#recent.touched(tags).some((position) => this.#numbering.misses({ basis, except }, position));
  }

  /** A value is held no more. */
  forget(key) {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    if (entry) this.#release(entry);
  }

  /** What may be done with a value: 'fresh' (serve it), 'stale' (read it again) or 'unknown' (nobody knows). */
  check(key, now) {
    const entry = this.#entries.get(key);
    if (entry?.stale) return 'stale';
    return entry && !entry.unproven.size && now < this.#lease.until ? 'fresh' : 'unknown';
  }

  /** Whether an answer is on its way that decides about the value. */
  isAsked(key) {
    const entry = this.#entries.get(key);
    if (!entry || entry.stale || !this.#connected || !entry.unproven.size) return false;
    if (entry.except && this.#numbering.offsetOf(entry.except) === undefined) return false;
    return ![...entry.unproven].some((tag) => this.#held.get(tag).denied);
  }

  /** A mutation of this client's own was acknowledged. That is no basis of what its answer shows: see `stored`. */
  mutated(position, touchedTags) {
    this.#horizon = Math.max(this.#horizon, this.#numbering.offsetOf(position) ?? 0);
    for (const touched of touchedTags) {
      for (const tag of this.#held.matching((held) => overlap(held, touched))) this.#touch(this.#held.get(tag), position);
      this.#remember(position, touched);
    }
  }

  /** Handles a frame of this log; `watched` and `error` with the id of the watch. */
  handle(frame) {
    if (frame.watched) this.#handleWatched(frame.id, frame.watched);
    else if (frame.error) this.#handleRefused(frame.id);
    else if (frame.invalidated) this.#handleInvalidated(frame.invalidated);
    else if (frame.at) this.#handleAt(frame.at);
    else if (frame.reset) this.#handleReset(frame.reset);
    else if (frame.continued) this.#handleContinued(frame.continued);
    this.#askLate();
  }

  #handleWatched(id, { at, stale, denied, escalated }) {
    if (!this.#questions.has(id)) return;
    // What is asked already is not asked again, should this be another epoch.
    this.#enter(at);
    const questions = this.#questions.answered(id);
    for (const subtree of escalated) this.#escalated.begin(subtree, this.#held.under(subtree).length);
    const named = new Set(stale);
    const subtrees = stale.filter((tag) => this.#escalated.has(tag));
    const refused = new Set(denied);
    for (const [tag, known, question] of questions) {
      if (refused.has(tag)) known.denied = true;
      else if (named.has(tag) || subtrees.some((subtree) => covers(subtree, tag))) this.#foundStale(tag, known, question, at);
      else this.#foundClean(tag, known, question, at);
    }
  }

  /** Refused for good: the tags are not watched on this connection. */
  #handleRefused(id) {
    for (const [, known] of this.#questions.answered(id)) known.denied = true;
  }

  #handleInvalidated({ at, tags, c }) {
    this.#enter(at);
    for (const [tag, offset] of Object.entries(tags)) {
      for (const named of this.#named(tag)) this.#touch(this.#held.get(named), { epoch: at.epoch, offset });
    }
    this.#echoed(c);
  }

  #handleAt({ position, c }) {
    this.#enter(position);
    this.#echoed(c);
  }

  #handleReset({ scope, tags = [], at, reason }) {
    const all = scope === 'all';
    const named = new Set(all ? this.#held.matching() : tags.flatMap((tag) => this.#named(tag)));
    for (const entry of [...this.#entries.values()]) {
      if (!all && ![...entry.tags].some((tag) => named.has(tag))) continue;
      if (reason === 'auth') {
        this.forget(entry.key);
        this.#changes.push({ forget: entry.key });
      } else {
        this.#spoil(entry);
      }
    }
    this.#enter(at);
    if (all) this.#floor = Math.max(this.#floor, at.offset);
    for (const tag of tags) this.#remember(at, tag);
    for (const tag of named) {
      const known = this.#held.get(tag);
      // It may be watched no more: who reads it again asks again.
      if (known) Object.assign(known, { version: Math.max(known.version, at.offset), covered: Infinity });
    }
  }

  #handleContinued(continued) {
    const { from, position } = continued;
    if (!this.#numbering.learn(continued) || from.epoch !== this.#numbering.epoch) return this.#enter(position);
    for (const known of this.#held.values()) {
      if (known.covered !== Infinity) known.covered = Math.min(known.covered, from.offset);
    }
    for (const entry of this.#entries.values()) {
      if (entry.provenAt !== Infinity) entry.provenAt = Math.min(entry.provenAt, from.offset);
    }
    // What was said above the fork is said again in the new epoch, above the fork.
    this.#turnTo(position, (offset) => Math.min(offset, from.offset + 1));
  }

  /** A position was told: of the present epoch, or of one that nobody announced. */
  #enter(position) {
    const { epoch, offset } = position;
    if (epoch === this.#numbering.epoch) {
      this.#horizon = Math.max(this.#horizon, offset);
      this.#told = Math.max(this.#told, offset);
      return;
    }
    for (const known of this.#held.values()) known.covered = Infinity;
    // What was touched before was touched before this, whatever it is called now.
    this.#turnTo(position, () => offset);
  }

  /**
   * Another epoch begins, in which what was touched has the offsets that `renumber` gives. What was known as of a position that means
   * nothing in it is to be proven anew.
   */
  #turnTo({ epoch, offset }, renumber) {
    if (this.#floor) this.#floor = renumber(this.#floor);
    for (const known of this.#held.values()) if (known.version) known.version = renumber(known.version);
    this.#recent.turnTo(epoch, renumber);
    this.#numbering.epoch = epoch;
    this.#horizon = this.#told = offset;
    this.#doubt(({ basis }) => this.#numbering.offsetOf(basis) === undefined);
  }

  #echoed(c) {
    if (c !== undefined && this.#connected && this.#lease.echoed(c)) this.#recent.confirmed(c, this.horizon);
  }

  /**
   * The held tags that a frame means: the tag itself, or all in a subtree that is watched in their place. Of that the answer
   * to a watch may not have come yet.
   */
  #named(tag) {
    const itself = this.#held.has(tag) && !this.#escalated.has(tag);
    if (itself && (!this.#questions.out || !tag.endsWith('*'))) return [tag];
    return this.#held.under(tag);
  }

  /** A held tag was touched: what was read before is stale. */
  #touch(known, position) {
    known.version = Math.max(known.version, this.#numbering.offsetOf(position) ?? 0);
    for (const entry of known.entries) if (entry.misses(position)) this.#spoil(entry);
  }

  #spoil(entry) {
    if (entry.stale) return;
    entry.stale = true;
    this.#changes.push({ stale: entry.key });
  }

  /** A tag was touched between `since` and `at`, by others than `except`. */
  #foundStale(tag, known, { since, except }, at) {
    // What is touched later is told.
    known.covered = Math.max(known.covered === Infinity ? 0 : known.covered, at.offset);
    for (const entry of known.entries) {
      // What the tag was touched by may be the very mutation that the value reflects.
      const concerns = !entry.except || this.#numbering.isSame(entry.except, except);
      if (concerns && this.#numbering.order(entry.basis, since) <= 0) this.#spoil(entry);
      // Read between the two, with no answer of its own on its way: the tag may have been touched after that.
      else if (!entry.stale && !entry.unproven.has(tag) && this.#numbering.precedes(entry.basis, at)) {
        entry.unproven.add(tag);
        this.#questions.ask(entry);
      }
    }
  }

  /** A tag was not touched between `since` and `at`, or by `except` alone. */
  #foundClean(tag, known, { since, except }, at) {
    const from = this.#numbering.offsetOf(since);
    // The answer does not tell of the exception.
    const own = except ? this.#numbering.offsetOf(except) : from;
    known.covered = Math.min(known.covered, Math.max(from ?? at.offset, own ?? at.offset));
    for (const entry of known.entries) {
      const reaches = this.#numbering.order(entry.basis, since) >= 0;
      const concerns = !except || this.#numbering.isSame(entry.except, except) || this.#numbering.order(entry.basis, except) >= 0;
      if (entry.stale || !reaches || !concerns || !entry.unproven.has(tag)) continue;
      if (entry.except && !(this.#numbering.offsetOf(entry.except) <= at.offset)) {
        // The server did not know the own mutation yet, nor what came between.
        this.#early.add(entry);
        continue;
      }
      entry.unproven.delete(tag);
      entry.provenAt = Math.min(entry.provenAt, at.offset);
      if (entry.unproven.size) continue;
      // The value did not change up to here: as if it had been read now.
      entry.raise({ epoch: at.epoch, offset: entry.provenAt });
      this.#changes.push({ proven: entry.key });
    }
  }

  /** The entries that fit and are not stale are to be proven from their basis on. */
  #doubt(fits) {
    for (const entry of this.#entries.values()) {
      if (entry.stale || !fits(entry)) continue;
      entry.doubt();
      this.#questions.ask(entry);
    }
  }

  /** Asks again about what was answered before the server knew the exception, where it does by now. */
  #askLate() {
    for (const entry of this.#early) {
      if (entry.except && !(this.#numbering.offsetOf(entry.except) <= this.#told)) continue;
      this.#early.delete(entry);
      this.#questions.ask(entry);
    }
  }

  #remember(position, tag) {
    const gone = this.#recent.note(position, tag, this.#lease.last);
    if (gone) this.#floor = Math.max(this.#floor, this.#numbering.offsetOf(gone) ?? 0);
  }

  /** An entry is gone; tags that nobody has now are not watched any more. */
  #release(entry) {
    this.#early.delete(entry);
    const { left, watched } = this.#held.release(entry);
    this.#questions.leave(watched);
    for (const subtree of this.#escalated.leave(left)) this.#descend(subtree);
  }

  /** What the subtree stood for is asked for again, tag by tag. */
  #descend(subtree) {
    this.#questions.leaveSubtree(subtree);
    for (const tag of this.#held.under(subtree)) {
      const known = this.#held.get(tag);
      Object.assign(known, { covered: Infinity, asked: new Map() });
      for (const entry of known.entries) {
        entry.unproven.add(tag);
        this.#questions.ask(entry);
      }
    }
  }
}
