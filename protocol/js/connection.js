/**
 * The connection: one WebSocket at a time, its token, its life signs, and the wait before the next one.
 *
 * It does not know what a channel is. Every frame goes to `on.frame`, except those that concern the connection alone.
 *
 * ```text
 *   Idle ──open──▶ Connecting ──hello──▶ Up
 *                   ▲      │              │
 *            backoff│      ▼              ▼
 *                   └── Waiting ◀─── closed or silent        Stopped: told not to come back; final.
 * ```
 */
import { backoff } from './backoff.js';
import { TidingsError, tokenFailed } from './errors.js';

const SUBPROTOCOL = 'tidings.v1.json';

/** How long a socket may take to open and greet, and a server to answer a probe. */
const ANSWER_MS = 10_000;

/** A connection that lived this long was a good one: the backoff starts anew. */
const STEADY_MS = 2_000;

const TOKEN_EXPIRED = 4401;

/**
 * With an id of its own a refused `connect` is told from other errors. It is no news: either the server needs no token, or it
 * closes the connection and says why.
 */
const CONNECT_ID = 0;

export class Connection {
  /** 'connecting', 'up' or 'offline'. */
  phase = 'offline';
  /** The body of the last `hello`; null before the first. */
  hello = null;

  #url;
  #options;
  #on;
  #socket = null;
  #token;
  #attempt = 0;
  #hint;
  #upSince = 0;
  /** Counts openings, so that a token that comes late finds out that it is not wanted any more. */
  #opening = 0;
  /** One timer is enough: the next attempt, the answer's deadline, or the next probe. */
  #timer;
  /** A probe was sent, and nothing came since. */
  #probing = false;
  #stopped = false;

  /**
   * `on` has `up(hello)`, `down()`, `frame(frame)`, `phase()`, `error(error)`, and `ping()`, which gives the `c` of each probe;
   * `options` are those of `tidings()`.
   */
  constructor(url, options, on) {
    this.#url = url;
    this.#options = options;
    this.#on = on;
  }

  /** Connects at once, whatever it waits for; a socket that is open is given up first. */
  open() {
    this.#abandon();
    // Whoever was told of the loss may have closed or reconnected already.
    if (this.#stopped || this.phase !== 'offline') return;
    this.#enter('connecting');
    this.#connect(++this.#opening);
  }

  /** Makes sure that the connection lives: asks an open one, opens a lost one. */
  check() {
    if (this.phase === 'up') this.#probe();
    else if (this.phase === 'offline') this.open();
  }

  /** Sends a command's text; the caller knows that the connection is up. */
  send(text) {
    this.#socket?.send(text);
  }

  /** Ends for good. */
  close() {
    this.#stopped = true;
    this.#abandon();
    this.#enter('offline');
  }

  async #connect(opening) {
    this.#wait(ANSWER_MS, () => this.#lost());
    try {
      const token = await this.#currentToken();
      if (opening !== this.#opening || this.#stopped) return;
      const socket = new this.#options.WebSocket(this.#url, [SUBPROTOCOL]);
      this.#socket = socket;
      socket.onopen = () => token && this.send(JSON.stringify({ id: CONNECT_ID, connect: { token } }));
      socket.onmessage = ({ data }) => this.#receive(data);
      socket.onclose = ({ code, reason }) => this.#closed(code, reason);
      socket.onerror = () => {}; // `close` follows and says more.
    } catch (cause) {
      if (opening !== this.#opening || this.#stopped) return;
      this.#on.error(cause instanceof TidingsError ? cause : this.#failed(cause));
      this.#lost();
    }
  }

  #failed(cause) {
    return new TidingsError('connection_failed', `cannot open ${this.#url}: ${cause.message}`, true, cause);
  }

  async #currentToken() {
    const { token } = this.#options;
    if (typeof token !== 'function') return token;
    try {
      return (this.#token ??= await token());
    } catch (cause) {
      throw tokenFailed(cause);
    }
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
    else if (!frame.hello) this.#on.frame(frame);
  }

  #greeted(hello) {
    this.hello = hello;
    if (this.phase === 'up') return;
    this.#upSince = this.#options.timers.now();
    this.phase = 'up';
    this.#heard();
    this.#on.up(hello);
    this.#on.phase();
  }

  #heard() {
    this.#probing = false;
    this.#wait(this.hello.ping_interval_ms ?? 25_000, () => this.#probe());
  }

  /** A browser cannot see the server's pings, so silence is broken by a question of its own. */
  #probe() {
    this.send(JSON.stringify({ ping: { c: this.#on.ping() } }));
    // However often is asked, the first question sets the deadline.
    if (this.#probing) return;
    this.#probing = true;
    this.#wait(ANSWER_MS, () => this.#lost());
  }

  #dismissed({ code, reason, reconnect, after_ms: hint }) {
    this.#hint = hint;
    if (reconnect === false) this.#stop(code, reason);
    else this.#lost();
  }

  #closed(code, reason) {
    // A token that was given as text cannot be renewed.
    const hopeless = code === TOKEN_EXPIRED && typeof this.#options.token !== 'function';
    if (code === TOKEN_EXPIRED) this.#token = undefined;
    if (hopeless || (code >= 4500 && code <= 4999)) this.#stop(code, reason);
    else this.#lost();
  }

  #stop(code, reason) {
    this.#stopped = true;
    this.#abandon();
    const slug = reason?.split(':')[0] || `close_${code}`;
    this.#on.error(new TidingsError(slug, `the server closed the connection for good: ${code} ${reason}`));
    this.#enter('offline');
  }

  #lost() {
    const steady = this.phase === 'up' && this.#options.timers.now() - this.#upSince >= STEADY_MS;
    this.#abandon();
    if (this.#stopped || this.phase !== 'offline') return;
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
    this.#opening++;
    this.#probing = false;
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
