/**
 * A channel's continuity: which publications to deliver, which are known already, and when something is lost.
 *
 * It never touches a socket or a timer. Frames and events go in; effects come out, to be carried out in order:
 * `{deliver: publication}` · `{gap: {reason, position}}` · `{send: command}` (without id) ·
 * `{retry: {code}}` (call `retry()` after a while) · `{closed: {code, message}}` (the channel has ended).
 *
 * ```text
 *            connected              subscribed
 *    Away ──────────────▶ Asking ─────────────────▶ Live ◀─────────┐
 *     ▲                     ▲  │ subscribed{more}    │             │ the last page,
 *     │ disconnected        │  └──────────────▶ Paging ────────────┘ or a gap
 *     │ (from anywhere)     │                     │  │
 *     └──                   └─────────────────────┴──┘ a hole
 *
 *    Closed: refused or removed by the server; final.
 * ```
 */
import { samePosition } from './position.js';

const Phase = { Away: 0, Asking: 1, Paging: 2, Live: 3, Closed: 4 };

export class Continuity {
  #channel;
  #position;
  #phase = Phase.Away;
  /** Whether the outstanding `subscribe` carried a position. */
  #resuming = false;
  /** A resume failed: why, as far as it is known. The server's `gap` is on its way and knows better. */
  #gapOwed = null;
  /** The connection broke while there was no position: nobody can say what was missed. */
  #missed = false;
  /** Where a hole was found and a resume asked to close it; the same place twice means that it cannot. */
  #repairedAt = null;
  /** The held subscription has been given up once, after `already_subscribed`. */
  #renewed = false;

  /** A machine for `channel` that wants everything after `since`, or begins at the head where that is null. */
  constructor(channel, since = null) {
    this.#channel = channel;
    this.#position = since;
  }

  /** The last position delivered or skipped by a gap; null for a volatile channel, or where none is known yet. */
  get position() {
    return this.#position;
  }

  /** Whether publications of the past are still to come. */
  get catchingUp() {
    return this.#phase === Phase.Paging || (this.#phase === Phase.Asking && this.#resuming);
  }

  connected() {
    if (this.#phase !== Phase.Away) return [];
    this.#repairedAt = null;
    return [this.#subscribe()];
  }

  disconnected() {
    const effects = this.#settleGap();
    if (this.#phase === Phase.Live && this.#position === null) this.#missed = true;
    if (this.#phase !== Phase.Closed) this.#phase = Phase.Away;
    return effects;
  }

  /** Asks again what the server could not answer just now. */
  retry() {
    if (this.#phase === Phase.Asking) return [this.#subscribe()];
    return this.#phase === Phase.Paging ? [this.#askPage()] : [];
  }

  /** Subscribes again, because something else is to be asked of the server; `held` unless that has ended the subscription. */
  renew(held = true) {
    if (this.#phase === Phase.Away || this.#phase === Phase.Closed) return [];
    if (this.#phase === Phase.Live && this.#position === null) this.#missed = true;
    return held ? this.#resubscribe() : [this.#subscribe()];
  }

  /** Handles a frame of this channel; `history` and `error` only where they answer a command of this machine. */
  handle(frame) {
    if (this.#phase === Phase.Away || this.#phase === Phase.Closed) return [];
    if (frame.batch) return this.#handleBatch(frame.batch);
    if (frame.subscribed) return this.#handleSubscribed(frame.subscribed);
    if (frame.history) return this.#handleHistory(frame.history);
    if (frame.gap) return this.#handleGap(frame.gap);
    if (frame.continued) return this.#handleContinued(frame.continued);
    if (frame.unsubscribed) return this.#close(frame.unsubscribed);
    return frame.error ? this.#handleError(frame.error) : [];
  }

  #handleSubscribed({ position = null, recovered, more, publications = [] }) {
    if (this.#phase !== Phase.Asking) return [];
    this.#phase = Phase.Live;
    this.#renewed = false;
    if (!this.#resuming) return this.#begin(position);
    if (recovered !== true) return this.#fail('lost', position);
    const { offset } = this.#position;
    const epoch = position?.epoch ?? this.#position.epoch;
    this.#position = { epoch, offset };
    const effects = this.#take(publications, offset + 1);
    if (more) return [...effects, this.#askPage()];
    this.#advance(position?.offset ?? 0);
    return effects;
  }

  #begin(position) {
    this.#position = position;
    const effects = this.#missed ? [gap('lost', position)] : [];
    this.#missed = false;
    return effects;
  }

  #handleBatch({ epoch, first, last, publications }) {
    if (first === undefined) {
      return [...this.#settleGap(), ...publications.map((publication) => ({ deliver: publication }))];
    }
    // What the old subscription still sends while a new one is asked for is part of what the answer brings.
    if (this.#phase === Phase.Asking) return [];
    const effects = this.#settleGap();
    this.#position ??= { epoch, offset: first - 1 };
    if (epoch !== this.#position.epoch || first > this.#position.offset + 1) return [...effects, ...this.#repair()];
    effects.push(...this.#take(publications, first));
    this.#advance(last ?? first + publications.length - 1);
    return effects;
  }

  #handleHistory({ position, publications, more, gap: reason }) {
    if (this.#phase !== Phase.Paging) return [];
    // The server goes on behind the head, so what such a page still holds is part of the gap.
    if (reason) return this.#fail(reason, position);
    if (position.epoch !== this.#position.epoch) return this.#repair();
    const before = this.#position.offset;
    const hole = publications.findIndex(({ offset }, i) => offset > (i ? publications[i - 1].offset : before) + 1);
    const effects = this.#take(hole < 0 ? publications : publications.slice(0, hole), before + 1);
    const end = this.#position.offset;
    // A page that brings nothing but promises more, or ends below the head, hides what was trimmed meanwhile.
    const short = more ? end === before : position.offset > end;
    if (hole >= 0 || short) return [...effects, ...this.#repair()];
    if (more) return [...effects, this.#askPage()];
    this.#phase = Phase.Live;
    return effects;
  }

  #handleGap({ reason, position = null }) {
    // Whether anything is lost is decided by the resume that is under way.
    if (this.#phase === Phase.Asking) return [];
    this.#phase = Phase.Live;
    this.#gapOwed = null;
    // Offsets never go back within an epoch, so what is known stays known.
    const behind = position && position.epoch === this.#position?.epoch && position.offset < this.#position.offset;
    if (!behind) this.#position = position;
    return [gap(reason, this.#position)];
  }

  #handleContinued({ from, position }) {
    if (this.#phase === Phase.Asking || this.#position?.epoch === position.epoch) return [];
    if (this.#position && !samePosition(this.#position, from)) return this.#repair();
    this.#position = position;
    return [];
  }

  #handleError(error) {
    const asking = this.#phase === Phase.Asking;
    if (!asking && this.#phase !== Phase.Paging) return [];
    if (error.retryable) return [{ retry: { code: error.code } }];
    if (!asking) return this.#restart();
    // A channel that the token subscribes to is held before anybody asks; only a subscription of our own knows `since`.
    if (error.code !== 'already_subscribed' || this.#renewed) return this.#close(error);
    this.#renewed = true;
    return this.#resubscribe();
  }

  #close({ code, message = code }) {
    const effects = this.#settleGap();
    this.#phase = Phase.Closed;
    return [...effects, { closed: { code, message } }];
  }

  /** Delivers what is new among `publications`; those without an offset are numbered from `next` on. */
  #take(publications, next) {
    const effects = [];
    const { epoch } = this.#position;
    for (const publication of publications) {
      const offset = publication.offset ?? next;
      next = offset + 1;
      if (offset <= this.#position.offset) continue;
      this.#position = { epoch, offset };
      effects.push({ deliver: { ...publication, epoch, offset } });
    }
    return effects;
  }

  #advance(offset) {
    if (offset > this.#position.offset) this.#position = { epoch: this.#position.epoch, offset };
  }

  /** Offsets are missing or the epoch is unknown: the server is asked, once for each place, before a gap is declared. */
  #repair() {
    if (samePosition(this.#repairedAt, this.#position)) return this.#restart();
    this.#repairedAt = this.#position;
    return this.#resubscribe();
  }

  #restart() {
    this.#position = null;
    return [gap('lost', null), ...this.#resubscribe()];
  }

  #resubscribe() {
    return [{ send: { unsubscribe: { channel: this.#channel } } }, this.#subscribe()];
  }

  #subscribe() {
    this.#phase = Phase.Asking;
    this.#resuming = this.#position !== null;
    const since = this.#resuming ? { since: this.#position } : {};
    return { send: { subscribe: { channel: this.#channel, ...since } } };
  }

  #askPage() {
    this.#phase = Phase.Paging;
    return { send: { history: { channel: this.#channel, since: this.#position } } };
  }

  #fail(reason, position) {
    this.#phase = Phase.Live;
    this.#gapOwed = reason;
    this.#position = position;
    return [];
  }

  /** The gap of a failed resume, where the server's own did not come in time. */
  #settleGap() {
    if (!this.#gapOwed) return [];
    const reason = this.#gapOwed;
    this.#gapOwed = null;
    return [gap(reason, this.#position)];
  }
}

function gap(reason, position) {
  return { gap: { reason, position } };
}
