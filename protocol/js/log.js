/**
 * One mutation log as a client sees it: its ledger, and the cache that depends on it. It sends what the ledger asks for, collected into
 * few commands, and tells the cache what became of its values.
 */
import { TidingsError } from './errors.js';
import { Ledger } from './ledger.js';
import { later } from './timing.js';

/** Commands are at least so far apart: what is asked meanwhile goes into one. */
const COLLECT_MS = 16;

export class Log {
  ledger = new Ledger();
  #logs;
  #options;
  #dependent;
  /** What everything depends on, as it was when the cache was told last: when the lease ends (0: there is none). */
  #until = 0;
  #reachable = false;
  /** Looks again when the lease ends. */
  #lapse;
  #collect;
  #sentAt = -Infinity;
  /** Nothing is sent while this is not 0. */
  #held = 0;
  /** Tags that the server has watched for this client. */
  #granted = new Set();
  /** What was reported on this connection: tags that are not watched, and codes of refusals. */
  #reported = new Set();
  /** The `c` of the ping whose echo is to come; undefined where none is. */
  #ping;
  /** A `watched` came on this connection. */
  #isAnswered = false;

  constructor(ns, logs, options) {
    this.ns = ns;
    this.#logs = logs;
    this.#options = options;
  }

  /**
   * `told(effect, spreadMs)` gets what the ledger says of a value; `touched()` is called after mutations that reads on their way may lack;
   * `revoked(tags)` where the right to see them has ended (undefined: all); `settle(all)` after anything that may have changed what
   * is fresh, where it is said if that may be so for every value; `close()` at the end.
   */
  attach(dependent) {
    this.#dependent = dependent;
  }

  get now() {
    return this.#logs.now();
  }

  get leased() {
    return this.now < this.ledger.leaseUntil;
  }

  get reachable() {
    return this.#logs.reachable;
  }

  /** Does something to the ledger and carries out what follows from it. Returns what `change(ledger)` does. */
  change(change, spreadMs = 0) {
    const result = change(this.ledger);
    for (const effect of this.ledger.changes()) this.#dependent?.told(effect, spreadMs);
    this.#send();
    this.settle();
    return result;
  }

  settle(all = false) {
    const { now, reachable } = this;
    const leased = now < this.ledger.leaseUntil;
    // A lease that ended in a sleep was missed by nobody before there is another one.
    all ||= leased !== (this.#until > 0) || (leased && this.#until <= now) || reachable !== this.#reachable;
    this.#until = leased ? this.ledger.leaseUntil : 0;
    this.#reachable = reachable;
    if (leased) this.#lapse ??= later(this.#options.timers, () => this.#lapsed(), this.ledger.leaseUntil - now);
    this.#dependent?.settle(all);
  }

  /** A connection whose `hello` gave this `lease_ms`. */
  up(leaseMs) {
    this.#reported.clear();
    this.#isAnswered = false;
    this.#ping = undefined;
    this.#sentAt = -Infinity;
    this.change((ledger) => ledger.connected(leaseMs));
  }

  down() {
    this.#stopCollecting();
    this.change((ledger) => ledger.disconnected());
  }

  /** Handles a frame of this log that answers no command. */
  handle(frame, { c, spread_ms: spreadMs }) {
    if (c !== undefined && c >= this.#ping) this.#ping = undefined;
    this.change((ledger) => ledger.handle(frame), spreadMs);
    if (!frame.at) this.#dependent?.touched();
    if (frame.reset?.reason === 'auth') this.#dependent?.revoked(frame.reset.tags);
  }

  /** A ping with this `c` was sent. */
  pinged(c) {
    this.#ping = c;
    this.ledger.pinged(c);
  }

  /** Asks for a lease at once, where there is none and none was asked for just now. */
  ask() {
    const isOut = this.#ping !== undefined && this.now - this.#ping < this.#logs.pingMs;
    if (!this.leased && !isOut) this.#logs.ask();
  }

  /** Does something of which what is to be sent is collected, however long it takes. */
  async collect(work) {
    this.#held++;
    try {
      await work();
    } finally {
      this.#held--;
      this.#send();
    }
  }

  /** The server has watched these tags for this client before. */
  grant(tags) {
    for (const tag of tags) this.#granted.add(tag);
  }

  close() {
    this.#stopCollecting();
    this.#options.timers.clearTimeout(this.#lapse);
    this.#dependent?.close();
  }

  #lapsed() {
    this.#lapse = undefined;
    this.settle();
  }

  #send() {
    if (this.#held || this.#collect) return;
    const { now } = this;
    if (now - this.#sentAt < COLLECT_MS) {
      this.#collect = this.#options.timers.setTimeout(() => {
        this.#collect = undefined;
        this.#send();
      }, COLLECT_MS);
      return;
    }
    for (const { id, watch, unwatch } of this.ledger.commands()) {
      this.#sentAt = now;
      for (const tag of unwatch?.tags ?? []) this.#granted.delete(tag);
      if (unwatch) this.#logs.unwatch(this, unwatch);
      else this.#logs.watch(this, watch, (frame) => this.#answered(id, watch, frame), (error) => this.#refused(error));
    }
  }

  #stopCollecting() {
    this.#options.timers.clearTimeout(this.#collect);
    this.#collect = undefined;
  }

  /** A `watch` was answered, for good. */
  #answered(id, { groups }, frame) {
    const { watched, error } = frame;
    const ended = watched ? this.#grants(groups, watched) : [];
    this.change((ledger) => ledger.handle({ ...frame, id }), watched?.spread_ms);
    if (error) this.#refused(error);
    if (ended.length) this.#dependent?.revoked(ended);
    if (error || watched.denied.length) this.settle(true);
    if (!this.#isAnswered && !this.leased) this.#logs.ask();
    this.#isAnswered = true;
  }

  /** Notes which tags are watched, and reports those that are not. Gives those to which the right has ended. */
  #grants(groups, { denied, no_room: noRoom = [] }) {
    const [refused, crowded] = [new Set(denied), new Set(noRoom)];
    for (const { tags } of groups) for (const tag of tags) if (!refused.has(tag)) this.#granted.add(tag);
    const notGranted = denied.filter((tag) => !crowded.has(tag));
    this.#report('tag_not_allowed', 'the credential does not grant', notGranted);
    this.#report('limit_reached', 'the server has no room for', noRoom);
    return notGranted.filter((tag) => this.#granted.delete(tag));
  }

  #report(code, why, denied) {
    const tags = denied.filter((tag) => !this.#reported.has(tag));
    if (!tags.length) return;
    for (const tag of tags) this.#reported.add(tag);
    const named = tags.slice(0, 3).join(', ') + (tags.length > 3 ? ` and ${tags.length - 3} more` : '');
    const message = `tags are not watched, ${why} them: ${named}; values with them are never fresh`;
    this.#options.report(Object.assign(new TidingsError(code, message), { tags }));
  }

  /** A `watch` was refused: that is said once on a connection for each reason. */
  #refused(error) {
    if (this.#reported.has(error.code)) return;
    this.#reported.add(error.code);
    this.#options.report(TidingsError.from({ ...error, message: `a watch was refused: ${error.message}` }));
  }
}
