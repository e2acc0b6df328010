/**
 * The books of one mutation log: which cached values may be served without asking. The client's share of caches that are
 * never stale.
 *
 * It has no values, touches no socket, no timer and no clock. Of each value it knows the key, the tags, and the basis: the
 * log's position before the value was read. After each call `effects()` gives what is to be done:
 * `{id, watch}` (send it; `handle` its reply) · `{unwatch}` (send it) · `{stale: key}` · `{proven: key}` ·
 * `{forget: key}` (the value may not be shown any more; the books have forgotten it).
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
import { Held } from './held.js';
import { Lease } from './lease.js';
import { Numbering } from './numbering.js';
import { Recent } from './recent.js';
import { covers, overlap } from './tag.js';
import { commands, pairKey } from './watch.js';

export class Ledger {
  #numbering = new Numbering();
  /** The last position told, in the present epoch. */
  #horizon = 0;
  /** Whatever was read before this is stale. */
  #floor = 0;
  #lease = new Lease();
  #connected = false;
  /** key → {key, tags, basis, stale, unproven, provenAt} */
  #entries = new Map();
  #held = new Held();
  #recent = new Recent(this.#numbering);
  /** Subtrees that the server names in place of the tags in them. */
  #escalated = new Set();
  /** id → groups of the watches without an answer. */
  #asked = new Map();
  #watches = 0;
  #effects = [];

  /** What is to be done since this was asked last, in order. */
  effects() {
    return this.#effects.splice(0);
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
    this.#escalated.clear();
    for (const known of this.#held.values()) Object.assign(known, { covered: Infinity, denied: false });
    this.#recent.connected();
    this.#doubt(() => true);
    // Whoever has nothing yet learns where the log stands: the basis of its first read.
    if (!this.#asked.size) this.#send([]);
  }

  /** The connection is lost. What is valid stays so until the lease is over. */
  disconnected() {
    this.#connected = false;
    this.#asked.clear();
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
   * A value was read, with these tags: 'kept', 'touched' (read it again), 'older' than what is held, or 'no_basis'. Only
   * what is kept changes the books. The basis that came with the value (`told`) counts before that of `begin`.
   */
  stored(key, tags, { begun = null, told = null }) {
    const basis = told ?? begun;
    if (!basis) return 'no_basis';
    if (this.isTouched(tags, basis)) return 'touched';
    const held = this.#entries.get(key);
    if (held && this.#isNewer(held, basis)) return 'older';
    const entry = { key, tags: new Set(tags), basis, stale: false, unproven: new Set(), provenAt: Infinity };
    this.#entries.set(key, entry);
    this.#held.hold(entry);
    if (held) this.#release(held);
    const offset = this.#numbering.offsetOf(basis);
    for (const tag of entry.tags) if (!(this.#held.get(tag).covered <= offset)) entry.unproven.add(tag);
    // An answer about some of the tags may overtake what is told of the others.
    if (entry.unproven.size < entry.tags.size) entry.provenAt = 0;
    this.#ask([entry]);
    return 'kept';
  }

  /** Whether a mutation is known that a value with these tags and this basis does not reflect. */
  isTouched(tags, basis) {
    const offset = this.#numbering.offsetOf(basis);
    // An offset that is not known is not above anything.
    const isBefore = (version) => version > 0 && !(offset >= version);
    if (isBefore(this.#floor)) return true;
    if (tags.some((tag) => isBefore(this.#held.get(tag)?.version ?? 0))) return true;
    return this.#recent.touched(tags).some((position) => this.#precedes(basis, position));
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
    return ![...entry.unproven].some((tag) => this.#held.get(tag).denied);
  }

  /** A mutation of this client's own was acknowledged. What its answer shows may be stored with that position as basis. */
  mutated(position, touchedTags) {
    this.#horizon = Math.max(this.#horizon, this.#numbering.offsetOf(position) ?? 0);
    for (const touched of touchedTags) {
      const tags = this.#held.matching((tag) => overlap(tag, touched));
      for (const tag of tags) this.#touch(this.#held.get(tag), position);
      this.#remember(position, touched);
    }
  }

  /** Handles a frame of this log; `watched` and `error` with the id of the watch that they answer. */
  handle(frame) {
    if (frame.watched) this.#handleWatched(frame.id, frame.watched);
    else if (frame.error) this.#handleRefused(frame.id);
    else if (frame.invalidated) this.#handleInvalidated(frame.invalidated);
    else if (frame.at) this.#handleAt(frame.at);
    else if (frame.reset) this.#handleReset(frame.reset);
    else if (frame.continued) this.#handleContinued(frame.continued);
  }

  #handleWatched(id, { at, stale, denied, escalated }) {
    if (!this.#asked.has(id)) return;
    // What is asked already is not asked again, should this be another epoch.
    this.#enter(at);
    const groups = this.#asked.get(id);
    this.#asked.delete(id);
    for (const subtree of escalated) this.#escalated.add(subtree);
    const named = new Set(stale);
    const subtrees = stale.filter((tag) => this.#escalated.has(tag));
    const refused = new Set(denied);
    for (const { since, tags } of groups) {
      for (const tag of tags) {
        const known = this.#held.get(tag);
        if (!known) continue;
        if (refused.has(tag)) known.denied = true;
        else if (named.has(tag) || subtrees.some((subtree) => covers(subtree, tag))) this.#foundStale(tag, known, since, at);
        else this.#foundClean(tag, known, since, at);
      }
    }
  }

  /** Refused for good: the tags are not watched on this connection. */
  #handleRefused(id) {
    for (const { tags } of this.#asked.get(id) ?? []) {
      for (const tag of tags) if (this.#held.has(tag)) this.#held.get(tag).denied = true;
    }
    this.#asked.delete(id);
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
        this.#effects.push({ forget: entry.key });
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
    this.#horizon = offset;
    this.#doubt(({ basis }) => this.#numbering.offsetOf(basis) === undefined);
  }

  #echoed(c) {
    if (c === undefined || !this.#connected || !this.#lease.echoed(c)) return;
    this.#recent.confirmed(c, this.horizon);
  }

  /**
   * The held tags that a frame means: the tag itself, or all in a subtree that is watched in their place. Of that the answer
   * to a watch may not have come yet.
   */
  #named(tag) {
    const itself = this.#held.has(tag) && !this.#escalated.has(tag);
    if (itself && (!this.#asked.size || !tag.endsWith('*'))) return [tag];
    return this.#held.under(tag);
  }

  /** A held tag was touched: what was read before is stale. */
  #touch(known, position) {
    known.version = Math.max(known.version, this.#numbering.offsetOf(position) ?? 0);
    for (const entry of known.entries) if (this.#precedes(entry.basis, position)) this.#spoil(entry);
  }

  #spoil(entry) {
    if (entry.stale) return;
    entry.stale = true;
    this.#effects.push({ stale: entry.key });
  }

  /** A tag was touched between `since` and `at`. */
  #foundStale(tag, known, since, at) {
    // What is touched later is told.
    known.covered = Math.max(known.covered === Infinity ? 0 : known.covered, at.offset);
    const between = [];
    for (const entry of known.entries) {
      if (this.#numbering.order(entry.basis, since) <= 0) this.#spoil(entry);
      // Read between the two, with no answer of its own on its way: the tag may have been touched after that.
      else if (!entry.stale && !entry.unproven.has(tag) && this.#precedes(entry.basis, at)) between.push(entry);
    }
    for (const { unproven } of between) unproven.add(tag);
    this.#ask(between);
  }

  /** A tag was not touched between `since` and `at`. */
  #foundClean(tag, known, since, at) {
    known.covered = Math.min(known.covered, this.#numbering.offsetOf(since) ?? at.offset);
    for (const entry of known.entries) {
      if (entry.stale || !(this.#numbering.order(entry.basis, since) >= 0) || !entry.unproven.delete(tag)) continue;
      entry.provenAt = Math.min(entry.provenAt, at.offset);
      if (entry.unproven.size) continue;
      // The value did not change up to here: as if it had been read now.
      const reached = { epoch: at.epoch, offset: entry.provenAt };
      if (this.#precedes(entry.basis, reached)) entry.basis = reached;
      this.#effects.push({ proven: entry.key });
    }
  }

  /** The entries that fit and are not stale are to be proven from their basis on. */
  #doubt(fits) {
    const doubted = [...this.#entries.values()].filter((entry) => !entry.stale && fits(entry));
    for (const entry of doubted) Object.assign(entry, { unproven: new Set(entry.tags), provenAt: Infinity });
    this.#ask(doubted);
  }

  /** Asks for what is not proven of these entries and not asked already. */
  #ask(entries) {
    if (!this.#connected) return;
    const asked = new Set();
    for (const groups of this.#asked.values()) {
      for (const { since, tags } of groups) for (const tag of tags) asked.add(pairKey(since, tag));
    }
    const wanted = [];
    for (const { basis, unproven } of entries) {
      for (const tag of unproven) {
        if (!this.#held.get(tag).denied && !asked.has(pairKey(basis, tag))) wanted.push([basis, tag]);
      }
    }
    for (const groups of commands(wanted)) this.#send(groups);
  }

  #send(groups) {
    this.#asked.set(++this.#watches, groups);
    this.#effects.push({ id: this.#watches, watch: { groups } });
  }

  #remember(position, tag) {
    const gone = this.#recent.note(position, tag, this.#lease.last);
    if (gone) this.#floor = Math.max(this.#floor, this.#numbering.offsetOf(gone) ?? 0);
  }

  /** Whether `one` is before `other`, or nobody can tell. */
  #precedes(one, other) {
    return !(this.#numbering.order(one, other) >= 0);
  }

  /**
   * Whether what is held must not be replaced: its basis is above the other one, or it is good in the present epoch while
   * nobody knows what the other one means.
   */
  #isNewer({ basis, stale }, other) {
    const isKnown = (position) => this.#numbering.offsetOf(position) !== undefined;
    const order = this.#numbering.order(basis, other);
    return order === undefined ? !stale && isKnown(basis) && !isKnown(other) : order > 0;
  }

  /** An entry is gone; tags that nobody has now are not watched any more. */
  #release(entry) {
    const left = this.#held.release(entry);
    if (!this.#connected || !left.length) return;
    // An answer that is still to come says nothing of what is taken back after the question.
    const kept = ({ since, tags }) => ({ since, tags: tags.filter((tag) => !left.includes(tag)) });
    for (const [id, groups] of this.#asked) this.#asked.set(id, groups.map(kept));
    this.#effects.push({ unwatch: { tags: left } });
  }
}
