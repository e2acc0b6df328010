/**
 * The mutation logs that caches depend on: sends what their books ask for, pings for their leases, and hands them the frames.
 *
 * Whatever depends on a log gets its `Log`, and is told on it of every effect that concerns a value, and of every moment that
 * may have changed what is fresh.
 */
import { backoff } from './backoff.js';
import { Ledger } from './ledger.js';
import { LeaseClock } from './lease.js';

/** Where the server says nothing, as every server does. */
const LEASE_MS = 15_000;

/** So many pings in a lease: one may be lost, and the next one still renews it. */
const PINGS = 3;

const DEFAULT = 'default';

export class Logs {
  #connection;
  #requests;
  #options;
  #clock = new LeaseClock();
  /** ns → Log */
  #logs = new Map();
  #leaseMs = LEASE_MS;
  #beat;
  /** Timers of watches that are to be sent again. */
  #retries = new Set();

  constructor(connection, requests, options) {
    this.#connection = connection;
    this.#requests = requests;
    this.#options = options;
  }

  /** The client's own clock, which no sleep stops. */
  now() {
    const { timers } = this.#options;
    return this.#clock.read(timers.monotonic(), timers.now());
  }

  /** Whether the server may be reached: there is a connection, or one is being made. */
  get reachable() {
    return this.#connection.phase !== 'offline';
  }

  /** The log that is called `ns`, on which something depends from now on. */
  open(ns = DEFAULT) {
    const log = new Log(ns, this);
    this.#logs.set(ns, log);
    if (this.#connection.phase === 'up') {
      log.change((ledger) => ledger.connected(this.#leaseMs));
      this.#keepLeases();
    }
    return log;
  }

  /** The `c` of a ping that is about to be sent. */
  ping() {
    const c = this.now();
    for (const { ledger } of this.#logs.values()) ledger.pinged(c);
    return c;
  }

  up({ lease_ms: leaseMs = LEASE_MS }) {
    this.#leaseMs = leaseMs;
    for (const log of this.#logs.values()) log.change((ledger) => ledger.connected(leaseMs));
    this.#keepLeases();
  }

  down() {
    this.#rest();
    for (const log of this.#logs.values()) log.change((ledger) => ledger.disconnected());
  }

  /** Handles a frame that concerns a log; false for any other. */
  handle(frame) {
    const body = frame.invalidated ?? frame.at ?? frame.reset ?? frame.continued;
    if (!body || body.channel !== undefined) return false;
    this.#logs.get(body.ns ?? DEFAULT)?.change((ledger) => ledger.handle(frame), body.spread_ms);
    return true;
  }

  /** Asks for leases, if there is anybody to ask. */
  ask() {
    if (this.#connection.phase === 'up') this.#connection.check();
  }

  /** The page is back: whoever serves next knows how long it was away. The connection asks for a lease by itself. */
  wake() {
    for (const log of this.#logs.values()) log.settle();
  }

  close() {
    this.#rest();
    for (const log of this.#logs.values()) log.close();
    this.#logs.clear();
  }

  /** Sends what a log's books ask for. */
  send(log, { id, watch, unwatch }) {
    if (this.#connection.phase !== 'up') return;
    const ns = log.ns === DEFAULT ? undefined : log.ns;
    if (watch) this.#watch(log, id, { watch: { ns, ...watch } }, 0);
    else this.#requests.tell({ unwatch: { ns, ...unwatch } }, () => {});
  }

  #watch(log, id, command, attempt) {
    this.#requests.tell(command, (frame) => {
      if (frame.error?.retryable) this.#retry(() => this.#watch(log, id, command, attempt + 1), attempt);
      else log.change((ledger) => ledger.handle({ ...frame, id }));
    });
  }

  #retry(again, attempt) {
    const { timers, random } = this.#options;
    const timer = timers.setTimeout(() => {
      this.#retries.delete(timer);
      again();
    }, backoff(attempt, random));
    this.#retries.add(timer);
  }

  #keepLeases() {
    const { timers } = this.#options;
    timers.clearTimeout(this.#beat);
    if (!this.#logs.size || this.#connection.phase !== 'up') return;
    this.#connection.check();
    this.#beat = timers.setTimeout(() => this.#keepLeases(), this.#leaseMs / PINGS);
  }

  #rest() {
    const { timers } = this.#options;
    timers.clearTimeout(this.#beat);
    for (const timer of this.#retries) timers.clearTimeout(timer);
    this.#retries.clear();
  }
}

/** One log: its books, and who depends on them. */
class Log {
  ledger = new Ledger();
  #logs;
  #dependent = { told: () => {}, settle: () => {}, close: () => {} };

  constructor(ns, logs) {
    this.ns = ns;
    this.#logs = logs;
  }

  /**
   * `told(effect, spreadMs)` gets what concerns a value; `settle()` is called after anything that may have changed what is
   * fresh; `close()` at the end.
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

  /** Asks for a lease at once, where there is none. */
  ask() {
    if (!this.leased) this.#logs.ask();
  }

  /** Does something to the books and carries out what follows from it. Returns what `change(ledger)` does. */
  change(change, spreadMs = 0) {
    const result = change(this.ledger);
    for (const effect of this.ledger.effects()) {
      if (effect.watch || effect.unwatch) this.#logs.send(this, effect);
      else this.#dependent.told(effect, spreadMs);
    }
    this.settle();
    return result;
  }

  settle() {
    this.#dependent.settle();
  }

  close() {
    this.#dependent.close();
  }
}
