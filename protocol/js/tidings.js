/**
 * The tidings client: subscribes to channels, keeps their positions, reconnects and resumes, and never hides a gap.
 *
 * It joins the parts: `connection.js` (socket, backoff), `token.js`, `continuity.js` (a machine for each channel),
 * `requests.js` (replies), `stream.js` (async iteration), `presence.js` (who is there), `logs.js` and `cache.js` (what is fresh).
 */
import { Cache } from './cache.js';
import { Connection } from './connection.js';
import { Continuity } from './continuity.js';
import { encodeData, messageFrom } from './data.js';
import { backoff } from './backoff.js';
import { TidingsError } from './errors.js';
import { Logs } from './logs.js';
import { positionFrom } from './position.js';
import { Presence } from './presence.js';
import { labelled } from './reading.js';
import { Requests } from './requests.js';
import { Stream } from './stream.js';
import { tokenFrom } from './token.js';

export { TidingsError, labelled };

/** Wrapped, because a browser's timers refuse to be called as methods of another object. */
const TIMERS = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout: (then, ms) => setTimeout(then, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

/** Connects to the tidings server at `url` (http, https, ws or wss). Throws a TypeError where `url` is none. */
export function tidings(url, options = {}) {
  return new Tidings(url, options);
}

class Tidings extends EventTarget {
  #options;
  #connection;
  #requests;
  /** name → {name, continuity, listeners, hears, token, pending, attempt, timer}; `hears`: of who comes and goes */
  #channels = new Map();
  #logs;
  /** ns → Cache */
  #caches = new Map();
  #degraded = new Set();
  #state;
  #ended = new AbortController();

  constructor(url, options) {
    super();
    const { WebSocket } = globalThis;
    // A page's window or a worker's scope; Node has neither.
    const window = globalThis.addEventListener ? globalThis : undefined;
    this.#options = { WebSocket, window, timers: TIMERS, random: Math.random, ...options };
    if (!this.#options.WebSocket) throw new TypeError('there is no WebSocket here; give one as options.WebSocket');
    this.#connection = new Connection(endpoint(url), this.#options, {
      up: (hello) => this.#up(hello),
      down: () => this.#down(),
      frame: (frame) => this.#handle(frame),
      phase: () => this.#refreshState(),
      error: (error) => this.#report(error),
      ping: () => this.#logs.ping(),
    });
    this.#requests = new Requests(this.#connection, this.#options.timers);
    this.#logs = new Logs(this.#connection, this.#requests, this.#options);
    this.#connection.open();
    this.#watchWindow();
  }

  /** 'connecting', 'live', 'catching-up', 'degraded' or 'offline'. */
  get state() {
    return this.#state;
  }

  /** What the server said in its last `hello`; null before the first. */
  get session() {
    return this.#connection.hello;
  }

  /**
   * Calls `fn(message)` for every publication on `channel`, in order. Returns the function that ends it.
   *
   * `since` counts for the first listener of a channel, as all listeners share one subscription. So does `token`, for a channel
   * that the connection's own token does not grant: a function is asked for another one when it has expired.
   */
  subscribe(channel, fn, { since, onGap, signal, token } = {}) {
    if (typeof fn !== 'function') throw new TypeError('subscribe(channel, fn): fn is not a function');
    return this.#listen(channel, { message: fn, gap: onGap, end: () => {} }, { since, signal, token });
  }

  /** The channel's messages as an async iterator; items with `gap` stand where something is missing. */
  stream(channel, { since, signal, token } = {}) {
    let off = () => {};
    const stream = new Stream(channel, () => off());
    const listener = {
      message: (message) => stream.push(message),
      gap: (gap) => stream.push({ channel, gap }),
      end: (error) => stream.end(error),
    };
    off = this.#listen(channel, listener, { since, signal, token });
    return stream;
  }

  /** Who is in the channel, as long as anybody wants to know: `members()`, `count`, and the events `join` and `leave`. */
  presence(channel, { signal, token } = {}) {
    let off = () => {};
    const ask = async () => (await this.#ask({ presence: { channel } })).presence;
    const presence = new Presence(ask, this.#options, () => off());
    off = this.#listen(channel, { presence, end: (error) => presence.end(error) }, { signal, token });
    return presence;
  }

  /** Publishes; a promise of `{position, ack}`. Bytes go as they are, all else as JSON. */
  async publish(channel, data, { key, idempotencyKey } = {}) {
    const publish = { channel, ...encodeData(data), key, idempotency_key: idempotencyKey };
    return (await this.#ask({ publish })).published;
  }

  /** What the channel has kept, ascending: a promise of `{messages, position, more, gap}`; `gap` says why it does not continue `since`. */
  async history(channel, { since, limit } = {}) {
    const history = { channel, since: positionFrom(since) ?? undefined, limit };
    const { publications, position, more, gap = null } = (await this.#ask({ history })).history;
    const epoch = position?.epoch;
    const messages = publications.map((publication) => messageFrom(channel, { epoch, ...publication }));
    return { messages, position, more: more === true, gap };
  }

  /** The position up to which messages were handed out; null where there is none. */
  position(channel) {
    return this.#channels.get(channel)?.continuity.position ?? null;
  }

  /**
   * The cache of what depends on the mutation log `ns`; the same one whenever it is asked for. `options` count for the first
   * time.
   */
  cache({ ns = 'default', ...options } = {}) {
    if (this.#ended.signal.aborted) throw closedError();
    const cache = this.#caches.get(ns) ?? this.#openCache(ns, options);
    this.#caches.set(ns, cache);
    return cache;
  }

  /**
   * Connects anew at once, with a token that is asked for anew: drops the socket, cuts the wait for the next one short, and
   * comes back to a server that had ended it.
   */
  reconnect() {
    this.#connection.reopen();
  }

  /** Ends everything: subscriptions, streams, requests, the socket. */
  close() {
    this.#ended.abort();
    for (const channel of [...this.#channels.values()]) this.#end(channel);
    this.#logs.close();
    this.#connection.close();
    this.#requests.close('the client was closed');
  }

  #openCache(ns, options) {
    const callbacks = { call: (fn, argument) => this.#call(fn, argument), report: (error) => this.#report(error) };
    return new Cache(this.#logs.open(ns, callbacks.report), { ...this.#options, ...callbacks, ...options });
  }

  async #ask(command) {
    if (this.#ended.signal.aborted) throw closedError();
    return this.#requests.ask(command);
  }

  #listen(name, listener, { since, signal, token }) {
    if (typeof name !== 'string' || !name) throw new TypeError(`not a channel name: ${JSON.stringify(name)}`);
    if (this.#ended.signal.aborted) throw closedError();
    if (signal?.aborted) {
      listener.end();
      return () => {};
    }
    const held = this.#channels.get(name);
    const channel = held ?? this.#open(name, positionFrom(since), listener.presence !== undefined, token);
    channel.listeners.add(listener);
    if (held && listener.presence) this.#hear(channel, listener.presence);
    const off = () => this.#leave(channel, listener);
    listener.release = () => signal?.removeEventListener('abort', off);
    signal?.addEventListener('abort', off);
    return off;
  }

  /** Whoever hears of changes already only needs the list; else the channel is subscribed again, with them. */
  #hear(channel, presence) {
    if (channel.hears) return presence.list();
    channel.hears = true;
    this.#carryOut(channel, channel.continuity.renew());
  }

  #open(name, since, hears, token) {
    const channel = { name, continuity: new Continuity(name, since), listeners: new Set(), hears, token, attempt: 0 };
    this.#channels.set(name, channel);
    if (this.#connection.phase === 'up') this.#carryOut(channel, channel.continuity.connected());
    return channel;
  }

  #leave(channel, listener) {
    if (!channel.listeners.delete(listener)) return;
    listener.release();
    listener.end();
    if (channel.listeners.size || !this.#holds(channel)) return;
    this.#end(channel);
    if (this.#connection.phase === 'up') this.#requests.tell({ unsubscribe: { channel: channel.name } }, () => {});
  }

  #end(channel, error) {
    this.#channels.delete(channel.name);
    this.#options.timers.clearTimeout(channel.timer);
    for (const listener of channel.listeners) {
      listener.release();
      listener.end(error);
    }
    channel.listeners.clear();
    this.#refreshState();
  }

  #holds(channel) {
    return this.#channels.get(channel.name) === channel;
  }

  #up(hello) {
    for (const channel of [...this.#channels.values()]) this.#carryOut(channel, channel.continuity.connected());
    this.#requests.up();
    this.#logs.up(hello);
  }

  #down() {
    this.#degraded.clear();
    this.#requests.down();
    this.#logs.down();
    for (const channel of [...this.#channels.values()]) {
      this.#options.timers.clearTimeout(channel.timer);
      this.#carryOut(channel, channel.continuity.disconnected());
    }
  }

  #handle(frame) {
    if (frame.id !== undefined && this.#requests.settle(frame)) return;
    if (this.#logs.handle(frame)) return;
    const body = frame.batch ?? frame.gap ?? frame.continued ?? frame.unsubscribed;
    const channel = this.#channels.get(body?.channel);
    if (channel && frame.id === undefined) this.#carryOut(channel, advance(channel, frame));
    if (frame.presence) this.#tellPresence(this.#channels.get(frame.presence.channel), (presence) => presence.handle(frame.presence));
    if (frame.degraded || frame.restored) this.#handleOutage(frame);
    if (frame.error && frame.id === undefined) this.#report(TidingsError.from(frame.error));
    this.#refreshState();
  }

  /** The state is told first: whoever hears of the outage finds it there. */
  #handleOutage({ degraded, restored }) {
    if (degraded) this.#degraded.add(degraded.component);
    else this.#degraded.delete(restored.component);
    this.#refreshState();
    this.#emit(degraded ? 'degraded' : 'restored', degraded ?? restored);
  }

  #carryOut(channel, effects) {
    for (const effect of effects) {
      // A listener may have left, or closed everything, while it was called.
      if (!this.#holds(channel)) return;
      if (effect.deliver) this.#deliver(channel, effect.deliver);
      else if (effect.gap) this.#tellGap(channel, effect.gap);
      else if (effect.send) this.#send(channel, effect.send);
      else if (effect.retry) this.#retryLater(channel);
      else this.#closed(channel, effect.closed);
    }
    this.#refreshState();
  }

  #deliver(channel, publication) {
    const message = messageFrom(channel.name, publication);
    for (const listener of channel.listeners) this.#call(listener.message, message);
  }

  #tellGap(channel, { reason, position }) {
    for (const listener of channel.listeners) this.#call(listener.gap, { reason, position });
    this.#emit('gap', { channel: channel.name, reason, position });
  }

  #tellPresence(channel, tell) {
    for (const { presence } of channel?.listeners ?? []) if (presence) tell(presence);
  }

  #send(channel, command) {
    if (this.#connection.phase !== 'up') return;
    if (command.subscribe && channel.hears) command.subscribe.presence = true;
    if (command.subscribe && channel.token !== undefined) this.#sendWithToken(channel, command);
    else this.#tell(channel, command);
  }

  /** Only the newest command counts, so a token that comes too late is not sent. */
  async #sendWithToken(channel, command) {
    const asked = (channel.pending = {});
    const isWanted = () => channel.pending === asked && this.#holds(channel) && this.#connection.phase === 'up';
    try {
      command.subscribe.token = (await tokenFrom(channel.token)) ?? undefined;
      if (isWanted()) this.#tell(channel, command);
    } catch (cause) {
      if (!isWanted()) return;
      this.#report(cause);
      this.#retryLater(channel);
    }
  }

  #tell(channel, command) {
    const id = this.#requests.tell(command, (frame) => {
      if (channel.pending !== id || !this.#holds(channel)) return;
      if (!frame.error) channel.attempt = 0;
      this.#carryOut(channel, advance(channel, frame));
      if (frame.subscribed) this.#tellPresence(channel, (presence) => presence.list());
    });
    // Only the answer to the newest command counts.
    channel.pending = id;
  }

  #retryLater(channel) {
    const { timers, random } = this.#options;
    const again = () => this.#carryOut(channel, channel.continuity.retry());
    channel.timer = timers.setTimeout(again, backoff(channel.attempt++, random));
  }

  #closed(channel, { code, message }) {
    const error = new TidingsError(code, `channel ${channel.name}: ${message}`);
    error.channel = channel.name;
    this.#end(channel, error);
    this.#report(error);
  }

  /** A callback that throws is its owner's bug: it is shown, and everybody else is served. */
  #call(fn, argument) {
    try {
      fn?.(argument);
    } catch (error) {
      globalThis.reportError?.(error);
      this.#report(error);
    }
  }

  #refreshState() {
    const { phase } = this.#connection;
    const catchingUp = () => [...this.#channels.values()].some(({ continuity }) => continuity.catchingUp);
    const state = phase !== 'up' ? phase : this.#degraded.size ? 'degraded' : catchingUp() ? 'catching-up' : 'live';
    if (state === this.#state) return;
    this.#state = state;
    this.#emit('state', state);
  }

  #report(error) {
    this.#emit('error', error);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Hidden pages wait for the backoff: there are many of them, and nobody looks. */
  #watchWindow() {
    const { window } = this.#options;
    const on = (type, then) => window?.addEventListener(type, then, { signal: this.#ended.signal, capture: true });
    const isHidden = () => window.document?.visibilityState === 'hidden';
    const wake = () => {
      if (!isHidden()) this.#connection.wake();
      // Whoever serves next knows how long it was away.
      this.#logs.wake();
    };
    // A page that comes back from the back/forward cache has lost its socket without being told.
    on('pageshow', (event) => (event.persisted ? this.#connection.open() : wake()));
    for (const type of ['online', 'resume', 'visibilitychange']) on(type, wake);
    on('offline', () => this.#connection.offline());
  }
}

/** What a frame means for a channel: one whose token has expired goes on where another can be had, and only there. */
function advance({ continuity, token }, frame) {
  const { unsubscribed, error } = frame;
  if ((unsubscribed ?? error)?.code !== 'token_expired' || token === undefined) return continuity.handle(frame);
  const canRenew = typeof token === 'function';
  if (unsubscribed && canRenew) return continuity.renew(false);
  return continuity.handle(canRenew || unsubscribed ? frame : { error: { ...error, retryable: false } });
}

function closedError() {
  return new TidingsError('closed', 'this client was closed; make a new one');
}

/** The WebSocket address of the server at `url`. */
function endpoint(url) {
  const address = new URL(url, globalThis.location?.href);
  if (!/^(https?|wss?):$/.test(address.protocol)) throw new TypeError(`not an http or ws address: ${url}`);
  address.protocol = address.protocol.replace('http', 'ws');
  // The address of the endpoint itself is accepted too.
  if (!address.pathname.endsWith('/ws')) address.pathname = `${address.pathname.replace(/\/$/, '')}/ws`;
  address.hash = '';
  return address.href;
}
