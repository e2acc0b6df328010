/**
 * A way to event streams that is cut again and again: between two writes, and inside of one.
 *
 * It asks readers to come back soon, as any proxy may: their own pauses take from one to five seconds.
 */
import { connect, createServer } from 'node:net';

/** How soon a reader is asked to come back. Some wait for a second all the same. */
const RETRY = 'a\r\nretry: 50\n\r\n';

/** A stream lives for so many ms before it is cut, at least and at most. */
const LIFE_MS = [20, 300];

/** A way to the server at `target` whose first `cuts` streams are cut; a promise of it. `random` gives numbers in [0, 1). */
export async function startCutter(target, cuts, random) {
  const cutter = new Cutter(new URL(target), cuts, random);
  await cutter.listen();
  return cutter;
}

class Cutter {
  /** How often it cut, between two writes and inside of one. */
  counts = { between: 0, inside: 0 };
  #target;
  #cuts;
  #random;
  #server;
  #open = new Set();
  #refuses = false;

  constructor(target, cuts, random) {
    this.#target = target;
    this.#cuts = cuts;
    this.#random = random;
    this.#server = createServer((near) => this.#join(near));
  }

  async listen() {
    await new Promise((resolve, reject) => this.#server.on('error', reject).listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}/`;
  }

  get isDone() {
    return this.counts.between + this.counts.inside >= this.#cuts;
  }

  /** Cuts all that is open, and lets nobody in. */
  refuse() {
    this.#refuses = true;
    for (const end of this.#open) end();
  }

  admit() {
    this.#refuses = false;
  }

  stop() {
    this.#server.close();
    this.refuse();
  }

  #join(near) {
    if (this.#refuses) return near.destroy();
    const far = connect(this.#target.port, this.#target.hostname);
    const end = () => (near.destroy(), far.destroy());
    this.#open.add(end);
    for (const socket of [near, far]) {
      socket.on('error', () => {}); // `close` follows.
      socket.on('close', () => (end(), this.#open.delete(end)));
    }
    this.#pass(near, far, end);
  }

  /** Passes requests and answers on. An event stream is cut some time after its head. */
  #pass(near, far, end) {
    /** Of the answer that is awaited; null once it was there. */
    let head = Buffer.alloc(0);
    let isStream = false;
    let cutsInside = false;
    near.on('data', (bytes) => {
      head = Buffer.alloc(0);
      far.write(bytes);
    });
    far.on('data', (bytes) => {
      if (head !== null) {
        head = Buffer.concat([head, bytes]);
        const length = head.indexOf('\r\n\r\n') + 4;
        if (length < 4) return;
        isStream = head.includes('text/event-stream');
        near.write(head.subarray(0, length));
        if (isStream) near.write(RETRY);
        bytes = head.subarray(length);
        head = null;
        if (isStream) this.#cutLater(end, () => (cutsInside = true));
      }
      if (cutsInside && !this.isDone) {
        this.counts.inside++;
        return near.write(this.#begin(bytes), end);
      }
      if (bytes.length) near.write(bytes);
    });
  }

  #cutLater(end, cutInside) {
    const [least, most] = LIFE_MS;
    setTimeout(() => {
      if (this.isDone || !this.#open.has(end)) return;
      if (this.#random() < 0.5) return cutInside();
      this.counts.between++;
      end();
    }, least + (most - least) * this.#random());
  }

  /**
   * A part of the bytes. Not up to the line of an id: eventsource 2 and fetch-event-source keep an id before its event is
   * dispatched, against the standard, and lose the event there.
   */
  #begin(bytes) {
    const part = bytes.subarray(0, Math.floor(this.#random() * bytes.length));
    return /\nid: [\w-]+\n$/.test(part.toString('latin1')) ? part.subarray(0, -1) : part;
  }
}
