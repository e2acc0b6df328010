/** A way to a server that can be cut, and can fall silent without being cut. */
import { connect, createServer } from 'node:net';

/** A proxy of the server at `target`; a promise of it. */
export async function startProxy(target) {
  const proxy = new Proxy(new URL(target));
  await proxy.listen();
  return proxy;
}

class Proxy {
  #target;
  #server;
  #pairs = new Set();
  #silent = false;

  constructor(target) {
    this.#target = target;
    this.#server = createServer((near) => this.#join(near));
  }

  async listen() {
    await new Promise((resolve, reject) => this.#server.on('error', reject).listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}/`;
  }

  /** Ends every connection. */
  cut() {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Passes nothing on, in either direction; who connects meanwhile is let in and hears nothing. */
  fallSilent() {
    this.#silent = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** Passes on again; what was under way is lost with its connections. */
  recover() {
    this.#silent = false;
    this.cut();
  }

  stop() {
    this.#server.close();
    this.cut();
  }

  #join(near) {
    const far = connect(this.#target.port, this.#target.hostname);
    const pair = [near, far];
    this.#pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (bytes) => to.write(bytes));
      from.on('error', () => {}); // `close` follows.
      from.on('close', () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
      if (this.#silent) from.pause();
    }
  }
}
