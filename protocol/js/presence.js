/**
 * Who is in a channel: a list that is asked for after each `subscribed`, and the changes that follow it.
 *
 * Events: `join` and `leave`, with the member as detail; `end`, with the error that ended it, if one did.
 */

import { TidingsError } from './errors.js';

/** Lost changes are lost for many at once: they ask again within this time, not together. */
const SPREAD_MS = 1_000;

export class Presence extends EventTarget {
  /** session → member */
  #known = new Map();
  /** Members that the last list counted and did not name. */
  #unnamed = 0;
  /** Changes that came since the list was asked for; null while none is. */
  #early = null;
  #ask;
  #options;
  #stop;
  #timer;
  #ended = false;

  /** `ask` is a promise of the list, `stop` is called when the program closes it; `options` are those of `tidings()`. */
  constructor(ask, options, stop) {
    super();
    this.#ask = ask;
    this.#options = options;
    this.#stop = stop;
  }

  /** The members that are known, in no particular order: `{user, session, since}`. */
  members() {
    return [...this.#known.values()];
  }

  /** How many there are, those among them that a list was too short for. */
  get count() {
    return this.#known.size + this.#unnamed;
  }

  /** Ends it, and the subscription where nobody else needs it. */
  close() {
    this.#stop();
  }

  /** Asks who is there. What changes meanwhile may be newer than the answer, and is applied to it. */
  async list() {
    this.#options.timers.clearTimeout(this.#timer);
    const early = (this.#early = []);
    try {
      const { members, count } = await this.#ask();
      if (this.#early !== early) return;
      const listed = new Map(members.map((member) => [member.session, member]));
      this.#unnamed = count - listed.size;
      for (const changes of early) apply(listed, changes);
      this.#become(listed);
    } catch (error) {
      if (this.#early !== early) return;
      if (error.retryable) this.#listLater();
    }
    this.#early = null;
  }

  /** Takes the body of a frame `presence` that nobody asked for. */
  handle(changes) {
    if (changes.code) {
      this.end(new TidingsError(changes.code, `the presence of ${changes.channel} may not be seen any more`));
      return this.#stop();
    }
    this.#early?.push(changes);
    const members = new Map(this.#known);
    apply(members, changes);
    this.#become(members);
    if (changes.lost) this.#listLater();
  }

  end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#early = null;
    this.#options.timers.clearTimeout(this.#timer);
    this.#emit('end', error);
  }

  #listLater() {
    const { timers, random } = this.#options;
    timers.clearTimeout(this.#timer);
    this.#timer = timers.setTimeout(() => this.list(), SPREAD_MS * random());
  }

  #become(members) {
    const before = this.#known;
    this.#known = members;
    for (const [session, member] of before) if (!members.has(session)) this.#emit('leave', member);
    for (const [session, member] of members) if (!before.has(session)) this.#emit('join', member);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function apply(members, { joined, left }) {
  for (const member of joined) members.set(member.session, member);
  for (const { session } of left) members.delete(session);
}
