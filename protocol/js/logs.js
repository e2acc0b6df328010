/** The mutation logs that caches depend on: pings for their leases, sends their commands, and hands them their frames. */
import { backoff } from './backoff.js';
import { LeaseClock } from './lease.js';
import { Log } from './log.js';

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

  /** How far pings are apart, in ms. */
  get pingMs() {
    return this.#leaseMs / PINGS;
  }

  /** The log that is called `ns`, on which something depends from now on; `report(error)` gets what is refused. */
  open(ns = DEFAULT, report) {
    const log = new Log(ns, this, { ...this.#options, report });
    this.#logs.set(ns, log);
    if (this.#connection.phase === 'up') {
      log.up(this.#leaseMs);
      this.#keepLeases();
    }
    return log;
  }

  /** The `c` of a ping that is about to be sent. */
  ping() {
    const c = this.now();
    for (const log of this.#logs.values()) log.pinged(c);
    return c;
  }

  up({ lease_ms: leaseMs = LEASE_MS }) {
    this.#leaseMs = leaseMs;
    for (const log of this.#logs.values()) log.up(leaseMs);
    this.#keepLeases();
  }

  down() {
    this.#rest();
    for (const log of this.#logs.values()) log.down();
  }

  /** Handles a frame that concerns a log; false for any other. */
  handle(frame) {
    const body = frame.invalidated ?? frame.at ?? frame.reset ?? frame.continued;
    if (!body || body.channel !== undefined) return false;
    this.#logs.get(body.ns ?? DEFAULT)?.handle(frame, body);
    return true;
  }

  /** Asks for leases, if there is anybody to ask. */
  ask() {
    if (this.#connection.phase === 'up') this.#connection.check();
  }

  /** The page is back: whoever serves next knows how long it was away. The connection asks for a lease by itself. */
  wake() {
    for (const log of this.#logs.values()) log.settle(true);
  }

  close() {
    this.#rest();
    for (const log of this.#logs.values()) log.close();
    this.#logs.clear();
  }

  unwatch({ ns }, unwatch) {
    this.#requests.tell({ unwatch: { ...named(ns), ...unwatch } }, () => {});
  }

  /** Sends a `watch`, again where the server cannot answer just now; `refused(error)` gets why. `answered(frame)` gets the end of it. */
  watch({ ns }, watch, answered, refused, attempt = 0) {
    this.#requests.tell({ watch: { ...named(ns), ...watch } }, (frame) => {
      if (!frame.error?.retryable) return answered(frame);
      if (frame.error.code === 'limit_reached') refused(frame.error);
      this.#retry(() => this.watch({ ns }, watch, answered, refused, attempt + 1), attempt);
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
    this.#beat = timers.setTimeout(() => this.#keepLeases(), this.pingMs);
  }

  #rest() {
    const { timers } = this.#options;
    timers.clearTimeout(this.#beat);
    for (const timer of this.#retries) timers.clearTimeout(timer);
    this.#retries.clear();
  }
}

/** How a log is named in commands. */
function named(ns) {
  return ns === DEFAULT ? {} : { ns };
}
