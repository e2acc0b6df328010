/**
 * A channel as an async iterator: a queue between the connection, which does not wait, and a loop, which may be slow.
 *
 * The queue is bounded. What does not fit is dropped, and a gap item stands in its place: `{channel, gap: {reason, position}}`.
 */

/** 1,024 messages are ten seconds of a channel with a hundred messages a second. */
const QUEUE_MAX = 1024;

export class Stream {
  #channel;
  #queue = [];
  /** Position of the newest message that was dropped; undefined while none is. */
  #dropped;
  #waiting = [];
  #ended = false;
  #error;
  #stop;

  /** `stop` is called once, when the loop ends or breaks off. */
  constructor(channel, stop) {
    this.#channel = channel;
    this.#stop = stop;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  push(item) {
    if (this.#ended) return;
    const waiter = this.#waiting.shift();
    if (waiter) return waiter.resolve({ done: false, value: item });
    if (this.#queue.length >= QUEUE_MAX) {
      const { epoch, offset } = item;
      this.#dropped = epoch === undefined ? (item.gap?.position ?? null) : { epoch, offset };
      return;
    }
    if (this.#dropped !== undefined) this.#queue.push(this.#overflow());
    this.#queue.push(item);
  }

  /** Ends the loop at once; with `error` the loop gets what is queued, then throws it. */
  end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (!error) this.#discard();
    if (this.#waiting.length) this.#settle(this.#waiting.shift());
    for (const waiter of this.#waiting.splice(0)) waiter.resolve({ done: true, value: undefined });
  }

  next() {
    return new Promise((resolve, reject) => this.#settle({ resolve, reject }));
  }

  /** The loop broke off. */
  async return() {
    this.end();
    this.#discard();
    this.#stop();
    return { done: true, value: undefined };
  }

  #discard() {
    this.#queue = [];
    this.#dropped = undefined;
  }

  #settle(waiter) {
    if (this.#queue.length) waiter.resolve({ done: false, value: this.#queue.shift() });
    else if (this.#dropped !== undefined) waiter.resolve({ done: false, value: this.#overflow() });
    else if (!this.#ended) this.#waiting.push(waiter);
    else if (this.#error) {
      waiter.reject(this.#error);
      this.#error = undefined;
    } else waiter.resolve({ done: true, value: undefined });
  }

  #overflow() {
    const position = this.#dropped;
    this.#dropped = undefined;
    return { channel: this.#channel, gap: { reason: 'overflow', position } };
  }
}
