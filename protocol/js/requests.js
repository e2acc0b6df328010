/**
 * Commands and their replies: gives each command its id, finds whom a reply is for, and ends what never gets one.
 *
 * A command of a program (`ask`) waits for the connection if there is none; one of a channel (`tell`) is only sent when
 * there is one, and is forgotten with it.
 */
import { TidingsError } from './errors.js';

/** Programs that ask for more than this at once are told so; it also bounds what waits for a connection. */
const REQUESTS_MAX = 256;

/** After this long without an answer a request has failed; the server's own deadlines are 2 s. */
const REPLY_MS = 10_000;

/** What an id adds to a command: `"id":9007199254740991,`. */
const ID_BYTES_MAX = 22;

export class Requests {
  #connection;
  #timers;
  #nextId = 1;
  /** id → what to do with the reply; for requests of programs also how to fail. */
  #replies = new Map();
  #asked = new Set();

  constructor(connection, timers) {
    this.#connection = connection;
    this.#timers = timers;
  }

  /** Sends `command` now; `reply` gets the frame that answers it. Returns the id. */
  tell(command, reply) {
    return this.#post(JSON.stringify(command), reply);
  }

  /**
   * Sends `command` as soon as there is a connection; a promise of the frame that answers it.
   *
   * Throws what JSON throws for data that it cannot say. Fails with the server's error, `limit_reached` (too many at once), `too_large`
   * (the server would end the connection), `not_connected` (surely not sent) or `outcome_unknown` (sent, and the connection or the
   * answer was lost).
   */
  ask(command) {
    if (this.#asked.size >= REQUESTS_MAX) {
      throw new TidingsError('limit_reached', `${REQUESTS_MAX} requests are unanswered; wait for some of them`, true);
    }
    // Data that JSON cannot say fails here, before anything waits for it.
    const text = JSON.stringify(command);
    return new Promise((resolve, reject) => {
      const request = { text, resolve, reject, sent: false };
      const late = () => this.#fail(request, `no answer within ${REPLY_MS / 1000} s`);
      request.timer = this.#timers.setTimeout(late, REPLY_MS);
      this.#asked.add(request);
      if (this.#connection.phase === 'up') this.#send(request);
    });
  }

  /** The connection is there: sends what waited. */
  up() {
    for (const request of this.#asked) if (!request.sent) this.#send(request);
  }

  /** The connection is lost: nothing that was sent will be answered. */
  down() {
    this.#replies.clear();
    for (const request of this.#asked) {
      if (request.sent) this.#fail(request, 'the connection was lost before the answer came');
    }
  }

  /** Fails everything, for `close()`. */
  close(why) {
    this.#replies.clear();
    for (const request of this.#asked) this.#fail(request, why);
  }

  /** Hands a reply to whom it is for; false if nobody waits for it. */
  settle(frame) {
    const reply = this.#replies.get(frame.id);
    this.#replies.delete(frame.id);
    reply?.(frame);
    return reply !== undefined;
  }

  #post(text, reply) {
    const id = this.#nextId++;
    this.#replies.set(id, reply);
    this.#connection.send(`{"id":${id},${text.slice(1)}`);
    return id;
  }

  #send(request) {
    const { bytesMax } = this.#connection;
    if (bytesOf(request.text) + ID_BYTES_MAX > bytesMax) {
      this.#forget(request);
      return request.reject(new TidingsError('too_large', `the server takes commands of ${bytesMax} bytes at most`));
    }
    request.sent = true;
    request.id = this.#post(request.text, (frame) => {
      this.#forget(request);
      if (frame.error) request.reject(TidingsError.from(frame.error));
      else request.resolve(frame);
    });
  }

  #fail(request, why) {
    this.#forget(request);
    const code = request.sent ? 'outcome_unknown' : 'not_connected';
    request.reject(new TidingsError(code, why, true));
  }

  #forget(request) {
    this.#timers.clearTimeout(request.timer);
    this.#asked.delete(request);
    this.#replies.delete(request.id);
  }
}

function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}
