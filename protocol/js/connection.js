/**
 * The connection: one WebSocket at a time, its token, its life signs, and the wait before the next one.
 *
 * It does not know what a channel is. Every frame goes to `on.frame`, except those that concern the connection alone.
 *
 * ```text
 *   Idle ──open──▶ Connecting ──hello──▶ Up ──▶ refreshes its token in time
 *                   ▲      │              │
 *            backoff│      ▼              ▼
 *                   └── Waiting ◀─── closed or silent        Ended: told not to come back, until `reopen`.
 * ```
 */
import { backoff, longBackoff } from './backoff.js';
import { TidingsError } from './errors.js';
import { refreshDelay, tokenFrom } from './token.js';

const SUBPROTOCOL = 'tidings.v1.json';

/** How long a socket may take to open and greet, and a server to answer a probe. */
const ANSWER_MS = 10_000;

/** How long a server may take to answer a probe after a sleep, which most connections do not survive. */
const AWAKE_ANSWER_MS = 3_000;

/** A connection that lived this long was a good one: the backoff starts anew. */
const STEADY_MS = 2_000;

/** Browsers call a timer at once that is further away. */
const TIMER_MS_MAX = 2 ** 31 - 1;

const TOKEN_EXPIRED = 4401;
const UNAUTHORIZED = 4501;

/** Closes that blame what this client sent, and their names: the same may end the next connection too. */
const FAULTS = { 1002: 'protocol_error', 1003: 'unsupported_data', 1007: 'invalid_utf8', 1008: 'policy', 1009: 'too_large' };

/**
 * With an id of its own a refused `connect` is told from other errors. It is no news: either the server needs no token, or it
 * closes the connection and says why.
 */
const CONNECT_ID = 0;

const REFRESH_ID = Number.MAX_SAFE_INTEGER;

export class Connection {
  /** 'connecting', 'up' or 'offline'. */
  phase = 'offline';
  /** The body of the last `hello`; null before the first. */
  hello = null;

  #url;
  #options;
  #on;
  #socket = null;
  /** The token that the function gave last; undefined where it is to be asked, null where it has none. */
  #token;
  /** When the function is to be asked for another one, in ms since 1970. */
  #renewAt = Infinity;
  #refreshTimer;
  #refreshes = 0;
  #attempt = 0;
  /** Tokens that were refused since the last one that was not. */
  #refusals = 0;
  #hint;
  /** The program was told that no connection comes about. */
  #failing = false;
  #upSince = 0;
  /** Counts openings, so that a token that comes late finds out that it is not wanted any more. */
  #opening = 0;
  /** One timer is enough: the next attempt, the answer's deadline, or the next probe. */
  #timer;
  /** When a probe that was sent must have been answered, on the monotonic clock; nothing came since. */
  #probedUntil = Infinity;
  /** The server does not want this client to come back. */
  #ended = false;
  #closedByProgram = false;

  /**
   * `on` has `up(hello)`, `down()`, `frame(frame)`, `phase()`, `error(error)`, and `ping()`, which gives the `c` of each probe;
   * `options` are those of `tidings()`.
   */
  constructor(url, options, on) {
    this.#url = url;
    this.#options = options;
    this.#on = on;
  }

  /** The most bytes of a frame that the server takes. */
  get bytesMax() {
    return (this.hello?.message_bytes_max ?? 1_000_000) + 4096;
  }

  /** Connects at once, whatever it waits for; a socket that is open is given up first. */
  open() {
    this.#abandon();
    // Whoever was told of the loss may have closed or reconnected already.
    if (this.#ended || this.#closedByProgram || this.phase !== 'offline') return;
    this.#enter('connecting');
    this.#connect(++this.#opening);
  }

  /** The same on behalf of the program: with a token that is asked for anew, and also where the server ended it. */
  reopen() {
    this.#ended = false;
    this.#token = undefined;
    this.open();
  }

  /** Asks an open connection whether it lives; what is asked for a lease, too. */
  check() {
    if (this.phase === 'up') this.#probe();
  }

  /** The machine or the page was away: an open connection has to answer soon, a lost one is opened. */
  wake() {
    if (this.phase === 'up') this.#probe(AWAKE_ANSWER_MS);
    else if (this.phase === 'offline') this.open();
  }

  /** The machine has no network any more, as it says itself. */
  offline() {
    if (this.phase !== 'offline') this.#lost();
  }

  /** Sends a command's text; the caller knows that the connection is up. */
  send(text) {
    this.#socket?.send(text);
  }

  /** Ends for good. */
  close() {
    this.#closedByProgram = true;
    this.#abandon();
    this.#enter('offline');
  }

  async #connect(opening) {
    const isWanted = () => opening === this.#opening && this.phase === 'connecting';
    this.#wait(ANSWER_MS, () => this.#failed(`no answer within ${ANSWER_MS / 1000} s`));
    try {
      const token = await this.#currentToken();
      if (!isWanted()) return;
      const socket = new this.#options.WebSocket(this.#url, [SUBPROTOCOL]);
      this.#socket = socket;
      socket.onopen = () => token && this.send(JSON.stringify({ id: CONNECT_ID, connect: { token } }));
      socket.onmessage = ({ data }) => this.#receive(data);
      socket.onclose = ({ code, reason }) => this.#closed(code, reason);
      socket.onerror = () => {}; // `close` follows and says more.
    } catch (cause) {
      if (!isWanted()) return;
      if (!(cause instanceof TidingsError)) return this.#failed(cause.message, cause);
      this.#on.error(cause);
      this.#lost();
    }
  }

  /** No connection came about; the program is told of the first of several times. */
  #failed(why, cause) {
    if (!this.#failing) {
      const message = `cannot connect to ${this.#url}: ${why}; trying again`;
      this.#on.error(new TidingsError('connection_failed', message, true, cause));
    }
    this.#failing = true;
    this.#lost();
  }

  get #asksForTokens() {
    return typeof this.#options.token === 'function';
  }

  async #currentToken() {
    const { token, timers } = this.#options;
    if (!this.#asksForTokens) return token;
    if (this.#token === undefined || timers.now() >= this.#renewAt) this.#keep(await tokenFrom(token));
    return this.#token;
  }

  #keep(token) {
    const { timers, random } = this.#options;
    this.#token = token;
    this.#renewAt = timers.now() + (refreshDelay(token, timers.now(), random) ?? Infinity);
  }

  #planRefresh(delay = this.#renewAt - this.#options.timers.now()) {
    const { timers } = this.#options;
    timers.clearTimeout(this.#refreshTimer);
    if (this.#asksForTokens && delay < Infinity) {
      this.#refreshTimer = timers.setTimeout(() => this.#refresh(), Math.min(delay, TIMER_MS_MAX));
    }
  }

  /** Replaces the token before it expires; while that fails the connection goes on for as long as the old one holds. */
  async #refresh() {
    const { token: source, timers, random } = this.#options;
    if (timers.now() < this.#renewAt) return this.#planRefresh();
    const opening = this.#opening;
    const isWanted = () => opening === this.#opening && this.phase === 'up';
    try {
      const token = await tokenFrom(source);
      if (!isWanted() || token === null) return;
      this.#keep(token);
      this.send(JSON.stringify({ id: REFRESH_ID, refresh: { token } }));
    } catch (cause) {
      if (!isWanted()) return;
      this.#on.error(cause);
      this.#planRefresh(backoff(this.#refreshes++, random));
    }
  }

  #refreshed({ error }) {
    if (!error) {
      this.#refreshes = 0;
      return this.#planRefresh();
    }
    this.#on.error(TidingsError.from(error));
    this.#renewAt = this.#options.timers.now();
    this.#planRefresh(longBackoff(this.#refreshes++, this.#options.random));
  }

  #receive(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (cause) {
      // What cannot be read may have been a batch: resuming tells.
      this.#on.error(new TidingsError('bad_frame', 'the server sent text that is not JSON; reconnecting', true, cause));
      return this.#lost();
    }
    if (frame.hello) this.#greeted(frame.hello);
    else if (this.phase === 'up') this.#heard();
    if (frame.disconnect) this.#dismissed(frame.disconnect);
    else if (frame.id === REFRESH_ID) this.#refreshed(frame);
    else if (!frame.hello && !this.#isSaidByClose(frame)) this.#on.frame(frame);
  }

  /** That a token does not hold is said again by the close that follows; that one has expired is no news where there are others. */
  #isSaidByClose({ id, error }) {
    return id === undefined && (error?.code === 'token_expired' || error?.code === 'unauthorized');
  }

  #greeted(hello) {
    this.hello = hello;
    if (this.phase === 'up') return;
    this.#failing = false;
    this.#refusals = 0;
    this.#upSince = this.#options.timers.now();
    this.phase = 'up';
    this.#heard();
    this.#planRefresh();
    this.#on.up(hello);
    this.#on.phase();
  }

  #heard() {
    this.#probedUntil = Infinity;
    this.#wait(this.hello.ping_interval_ms ?? 25_000, () => this.#probe());
  }

  /** A browser cannot see the server's pings, so silence is broken by a question of its own. */
  #probe(ms = ANSWER_MS) {
    this.send(JSON.stringify({ ping: { c: this.#on.ping() } }));
    const until = this.#options.timers.monotonic() + ms;
    // However often is asked, the earliest deadline stands.
    if (this.#probedUntil <= until) return;
    this.#probedUntil = until;
    this.#wait(ms, () => this.#lost());
  }

  #dismissed({ code, reason, reconnect, after_ms: hint }) {
    this.#hint = hint;
    if (reconnect === false) this.#stop(code, reason);
    else this.#lost();
  }

  #closed(code, reason) {
    if (code === TOKEN_EXPIRED || code === UNAUTHORIZED) this.#token = undefined;
    if (code === UNAUTHORIZED && this.#asksForTokens) {
      this.#on.error(closeError(code, reason, 'trying again with another token', true));
      this.#hint = longBackoff(this.#refusals++, this.#options.random);
      return this.#lost();
    }
    // A token that was given as text cannot be renewed.
    const isHopeless = code === TOKEN_EXPIRED && !this.#asksForTokens;
    if (isHopeless || (code >= 4500 && code <= 4999)) return this.#stop(code, reason);
    if (FAULTS[code]) this.#on.error(closeError(code, reason, 'connecting again', true));
    if (this.phase === 'connecting' && code < 1011 && !FAULTS[code]) {
      const why = 'it was closed before the server greeted; is the server there, and does it allow this page\'s origin';
      return this.#failed(`${why}? (${code} ${reason ?? ''})`);
    }
    this.#lost();
  }

  #stop(code, reason) {
    this.#ended = true;
    this.#abandon();
    this.#on.error(closeError(code, reason, 'not coming back before `reconnect()`'));
    this.#enter('offline');
  }

  #lost() {
    const steady = this.phase === 'up' && this.#options.timers.now() - this.#upSince >= STEADY_MS;
    this.#abandon();
    if (this.#ended || this.#closedByProgram || this.phase !== 'offline') return;
    if (steady) this.#attempt = 0;
    const delay = this.#hint ?? backoff(this.#attempt, this.#options.random);
    this.#attempt++;
    this.#hint = undefined;
    this.#wait(delay, () => this.open());
    this.#enter('offline');
  }

  #abandon() {
    const socket = this.#socket;
    const wasUp = this.phase === 'up';
    this.#options.timers.clearTimeout(this.#timer);
    this.#options.timers.clearTimeout(this.#refreshTimer);
    this.#opening++;
    this.#probedUntil = Infinity;
    this.#socket = null;
    this.phase = 'offline';
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    if (wasUp) this.#on.down();
  }

  #wait(ms, then) {
    this.#options.timers.clearTimeout(this.#timer);
    this.#timer = this.#options.timers.setTimeout(then, ms);
  }

  #enter(phase) {
    this.phase = phase;
    this.#on.phase();
  }
}

function closeError(code, reason, what, retryable = false) {
  const slug = reason?.split(':')[0] || FAULTS[code] || `close_${code}`;
  return new TidingsError(slug, `the server closed the connection: ${code} ${reason ?? ''}; ${what}`, retryable);
}
