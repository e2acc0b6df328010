/**
 * A model of the server: channels with history and lineage, mutation logs, and sessions that resume from them and watch.
 *
 * Without sockets and without time, so that tests can put either around it, and any fault in between.
 */
import { overlap } from '../../tag.js';
import { MutationLog } from './mutations.js';

const HELLO = {
  ping_interval_ms: 25_000,
  timeout_ms: 60_000,
  batch_ms: 100,
  lease_ms: 15_000,
  message_bytes_max: 1_000_000,
};

export class Hub {
  channels = new Map();
  logs = new Map();
  sessions = new Set();
  /** Tokens that let a session have the channels that begin with `guarded`, and those that did. */
  passes = new Set();
  expired = new Set();
  /** Whether a token of a connection does not hold. */
  refuses = () => false;
  #nextSession = 1;

  /** `historySize` publications are kept, `page` fit in a frame; channels that start with `volatile` keep none. */
  constructor({ historySize = 1000, page = 100, now = () => Date.now() } = {}) {
    Object.assign(this, { historySize, page, now });
  }

  /** Whether the credentials of the sessions cover a tag. */
  grants = (tag) => !tag.startsWith('secret');

  /** The mutation log of this name. */
  log(name = 'default') {
    if (!this.logs.has(name)) this.logs.set(name, new MutationLog(name));
    return this.logs.get(name);
  }

  /** A mutation touches `tags`: gives its position. */
  mutate(tags, name) {
    const log = this.log(name);
    const position = log.append(tags);
    for (const session of this.sessions) session.invalidate(log, tags, position);
    return position;
  }

  /** A log goes on in a new epoch, without its last `lost` mutations: those are told again, under new numbers. */
  forkLog(lost, name) {
    const log = this.log(name);
    const { from, position, gone } = log.fork(lost);
    for (const { watches, send } of this.sessions) {
      if (watches.has(log.name)) send({ continued: { ns: log.name, from, position } });
    }
    for (const tags of gone) this.mutate(tags, name);
  }

  channel(name) {
    if (!this.channels.has(name)) this.channels.set(name, new Channel(name, this));
    return this.channels.get(name);
  }

  /** A session whose frames go to `send(frame)`; it says hello at once. */
  attach(send) {
    const session = new Session(this, send, `s-${this.#nextSession++}`);
    this.sessions.add(session);
    session.send({ hello: { session: session.name, ...HELLO } });
    return session;
  }

  detach(session) {
    if (!this.sessions.delete(session)) return;
    for (const name of session.subscriptions.keys()) this.tell(name, { left: [session.member] });
  }

  /** Who subscribed to a channel. */
  members(name) {
    return [...this.sessions].filter(({ subscriptions }) => subscriptions.has(name)).map(({ member }) => member);
  }

  /** Tells those who hear of it who came and went. */
  tell(name, changes) {
    const frame = { presence: { channel: name, joined: [], left: [], ...changes } };
    for (const session of this.sessions) if (session.hears.has(name)) session.send(frame);
  }

  /** Publishes `{data}`s or `{b64}`s as one batch; `reaches(session)` may say that a session does not get it. */
  publish(name, contents, reaches = () => true) {
    const channel = this.channel(name);
    const publications = contents.map((content) => channel.append(content));
    const frame = { batch: channel.batch(publications) };
    for (const session of this.sessions) if (session.wants(name) && reaches(session)) session.send(frame);
    return channel.position;
  }

  /** Tokens expire, and the subscriptions of guarded channels with them. */
  expirePasses() {
    for (const pass of this.passes) this.expired.add(pass);
    this.passes.clear();
    for (const session of this.sessions) {
      for (const channel of [...session.subscriptions.keys()].filter((name) => name.startsWith('guarded'))) {
        session.subscriptions.delete(channel);
        session.send({ unsubscribed: { channel, code: 'token_expired' } });
      }
    }
  }

  /** A new epoch that keeps everything up to `lost` before the head; sessions at or below the fork go on. */
  failover(name, lost) {
    const channel = this.channel(name);
    const { epoch, head } = channel;
    channel.fork(head - lost);
    for (const session of this.sessions) {
      if (!session.wants(name)) continue;
      const { position } = channel;
      if (lost === 0) session.send({ continued: { channel: name, from: { epoch, offset: head }, position } });
      else session.send({ gap: { channel: name, reason: 'epoch', position } });
    }
  }
}

class Channel {
  head = 0;
  log = [];
  #generation = 1;
  /** epoch → the offset up to which it goes on in the present one. */
  #continues = new Map();

  constructor(name, hub) {
    this.name = name;
    this.hub = hub;
    this.volatile = name.startsWith('volatile');
  }

  get epoch() {
    return `${this.#generation}-${this.name}`;
  }

  get position() {
    return this.volatile ? null : { epoch: this.epoch, offset: this.head };
  }

  append(content) {
    this.head++;
    const publication = { ...content, time: this.hub.now(), offset: this.head };
    this.log.push(publication);
    if (this.log.length > this.hub.historySize) this.log.shift();
    return publication;
  }

  batch(publications) {
    if (this.volatile) return { channel: this.name, publications: publications.map(({ offset, ...rest }) => rest) };
    const [first, last] = [publications[0].offset, publications.at(-1).offset];
    return { channel: this.name, epoch: this.epoch, first, last, publications };
  }

  fork(offset) {
    for (const [epoch, end] of this.#continues) this.#continues.set(epoch, Math.min(end, offset));
    this.#continues.set(this.epoch, offset);
    this.#generation++;
    this.head = offset;
    this.log = this.log.filter((publication) => publication.offset <= offset);
  }

  /** Why `since` cannot be resumed; undefined where it can. */
  refusal({ epoch, offset }) {
    const end = epoch === this.epoch ? this.head : this.#continues.get(epoch);
    if (end === undefined || offset > end) return epoch === this.epoch ? 'lost' : 'epoch';
    const oldest = this.log[0]?.offset ?? this.head + 1;
    return offset + 1 < oldest ? 'trimmed' : undefined;
  }

  after(offset) {
    return this.log.filter((publication) => publication.offset > offset);
  }
}

class Session {
  /** channel → whether it still pages through history. */
  subscriptions = new Map();
  /** Channels of which it hears who comes and goes. */
  hears = new Set();
  /** log → its tags that are watched; for tags that begin with `crowded` there is no room. */
  watches = new Map();

  constructor(hub, send, name) {
    Object.assign(this, { hub, send, name, member: { user: '', session: name, since: hub.now() } });
  }

  wants(channel) {
    return this.subscriptions.get(channel) === false;
  }

  handle(text) {
    const { id, ...command } = JSON.parse(text);
    const [[name, body]] = Object.entries(command);
    const reply = this[name]?.(body) ?? { error: { code: 'unknown_command', message: name, retryable: false } };
    const frames = Array.isArray(reply) ? reply : [reply];
    for (const [i, frame] of frames.entries()) this.send(i === 0 && id !== undefined ? { id, ...frame } : frame);
  }

  /** A token that the hub does not take is answered by the reason, and by the close that follows. */
  connect({ token }) {
    return this.hub.refuses(token) ? this.end(4501, 'unauthorized: no such token') : [];
  }

  refresh({ token }) {
    if (this.hub.refuses(token)) return { error: { code: 'unauthorized', message: 'no such token', retryable: false } };
    this.refreshed = token;
    return { refreshed: { exp: 1 } };
  }

  end(code, reason) {
    this.close(code, reason);
    return [];
  }

  ping({ c }) {
    const confirmed = [...this.watches.keys()].map((name) => {
      const log = this.hub.log(name);
      return { at: { ns: log.ns, position: log.position, c } };
    });
    return [{ pong: { c } }, ...(this.silent ? [] : confirmed)];
  }

  watch({ ns, groups }) {
    const log = this.hub.log(ns);
    const watched = this.watches.get(log.name) ?? new Set();
    this.watches.set(log.name, watched);
    const isReplaced = (tag) => this.escalates && tag.startsWith('list:');
    const answer = { ns: log.ns, at: log.position, stale: [], denied: [], escalated: [] };
    for (const { since, except, tags } of groups) {
      for (const tag of tags) {
        const isCrowded = this.hub.grants(tag) && tag.startsWith('crowded');
        if (isCrowded) answer.no_room = [...(answer.no_room ?? []), tag];
        if (isCrowded || !this.hub.grants(tag)) answer.denied.push(tag);
        else watched.add(isReplaced(tag) ? 'list:*' : tag);
        if (isReplaced(tag)) answer.escalated = ['list:*'];
        if (since && log.isTouched(tag, since, except)) answer.stale.push(tag);
      }
    }
    return { watched: answer };
  }

  unwatch({ ns, tags }) {
    for (const tag of tags) this.watches.get(this.hub.log(ns).name)?.delete(tag);
    return { unwatched: {} };
  }

  invalidate(log, tags, at) {
    const touched = [...(this.watches.get(log.name) ?? [])].filter((tag) => tags.some((other) => overlap(tag, other)));
    if (!touched.length) return;
    const { spreadMs } = this.hub;
    this.send({ invalidated: { ns: log.ns, at, tags: Object.fromEntries(touched.map((tag) => [tag, at.offset])), spread_ms: spreadMs } });
  }

  subscribe({ channel: name, since, presence, token }) {
    if (name.startsWith('guarded') && !this.hub.passes.has(token)) {
      const code = this.hub.expired.has(token) ? 'token_expired' : 'channel_not_allowed';
      return { error: { code, message: code, retryable: code === 'token_expired' } };
    }
    if (this.subscriptions.has(name)) return { error: { code: 'already_subscribed', message: name, retryable: false } };
    if (name.startsWith('secret')) return { error: { code: 'channel_not_allowed', message: name, retryable: false } };
    const channel = this.hub.channel(name);
    const { position } = channel;
    this.subscriptions.set(name, false);
    if (presence) this.hears.add(name);
    this.hub.tell(name, { joined: [this.member] });
    if (!since) return { subscribed: { channel: name, position, more: false, publications: [] } };
    const reason = channel.volatile ? 'lost' : channel.refusal(since);
    if (reason) {
      const subscribed = { channel: name, position, recovered: false, more: false, publications: [] };
      return [{ subscribed }, { gap: { channel: name, reason, position } }];
    }
    const { publications, more } = this.#page(channel.after(since.offset));
    this.subscriptions.set(name, more);
    return { subscribed: { channel: name, position, recovered: true, more, publications } };
  }

  unsubscribe({ channel }) {
    this.subscriptions.delete(channel);
    this.hears.delete(channel);
    this.hub.tell(channel, { left: [this.member] });
    return { unsubscribed: { channel } };
  }

  history({ channel: name, since, limit = 1000 }) {
    const channel = this.hub.channel(name);
    const { publications, more } = this.#page(since ? channel.after(since.offset) : channel.log.slice(-limit), limit);
    if (!more && this.subscriptions.has(name)) this.subscriptions.set(name, false);
    const offset = publications.at(-1)?.offset ?? channel.head;
    const gap = since && !this.subscriptions.has(name) ? channel.refusal(since) : undefined;
    return { history: { publications, position: { epoch: channel.epoch, offset }, more, gap } };
  }

  presence({ channel }) {
    const members = this.hub.members(channel);
    return { presence: { members, count: members.length, more: false } };
  }

  publish({ channel, data, b64, key }) {
    const content = b64 === undefined ? { data, key } : { b64, key };
    return { published: { position: this.hub.publish(channel, [content]), ack: 'stored' } };
  }

  #page(publications, limit = Infinity) {
    const size = Math.min(this.hub.page, limit);
    return { publications: publications.slice(0, size), more: publications.length > size };
  }
}
