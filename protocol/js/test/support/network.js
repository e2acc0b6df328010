/**
 * The way between a client and the model hub: sockets with a latency, which can be cut, stalled and refused.
 */
const OPEN = 1;
const CLOSED = 3;

export class Network {
  sockets = [];
  /** Attempts to connect while this is false fail. */
  reachable = true;

  /** What is sent within so many ms may arrive together, as one segment. */
  constructor(hub, clock, latency = () => 1, segment = 1) {
    Object.assign(this, { hub, clock, latency, segment });
    const network = this;
    this.WebSocket = class extends Socket {
      constructor(url, protocols) {
        super(network, url, protocols);
      }
    };
  }

  /** The socket that was opened last. */
  get socket() {
    return this.sockets.at(-1);
  }
}

class Socket {
  readyState = 0;
  received = [];
  session = null;
  #network;
  #clock;
  #arrives = 0;

  constructor(network, url, protocols) {
    Object.assign(this, { url, protocols });
    this.#network = network;
    this.#clock = network.clock;
    network.sockets.push(this);
    this.#later(() => (network.reachable ? this.#open() : this.cut(1006)));
  }

  send(text) {
    const command = JSON.parse(text);
    this.received.push(command);
    this.#later(() => this.session?.handle(text));
  }

  close() {
    this.stall();
    this.readyState = CLOSED;
  }

  /** The server or the way to it ends the connection, and the client is told. */
  cut(code = 1006, reason = '') {
    if (this.readyState === CLOSED) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  /** The connection is dead and nobody says so. */
  stall() {
    this.#network.hub.detach(this.session);
    this.session = null;
  }

  /** A frame that the server sends out of the ordinary. */
  push(frame) {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
  }

  #open() {
    if (this.readyState === CLOSED) return;
    this.readyState = OPEN;
    this.onopen?.();
    let session = null;
    const send = (frame) => this.#later(() => this.session && this.session === session && this.push(frame));
    session = this.#network.hub.attach(send);
    session.close = (code, reason) => this.#later(() => this.cut(code, reason));
    this.session = session;
  }

  /** Latency varies, order does not. */
  #later(then) {
    const now = this.#clock.monotonic();
    const { latency, segment } = this.#network;
    this.#arrives = Math.max(this.#arrives, Math.ceil((now + latency()) / segment) * segment);
    this.#clock.setTimeout(then, this.#arrives - now);
  }
}
