/** A client, a model hub and a network between them, in time that the test moves. */
import { tidings } from '../../tidings.js';
import { Clock } from './clock.js';
import { Hub } from './hub.js';
import { Network } from './network.js';

export function world({ hub: hubOptions, latency, segment, ...options } = {}) {
  const clock = new Clock();
  const hub = new Hub({ now: clock.now, ...hubOptions });
  const network = new Network(hub, clock, latency, segment);
  const window = new EventTarget();
  const connect = () => {
    const client = tidings('http://hub.test', {
      WebSocket: network.WebSocket,
      timers: clock,
      random: () => 0.5,
      window,
      ...options,
    });
    for (const type of types) client.addEventListener(type, ({ detail }) => events.push([type, detail]));
    return client;
  };
  const events = [];
  const types = ['state', 'gap', 'degraded', 'restored', 'error'];
  const client = connect();
  return {
    clock, hub, network, window, client, events,
    /** Another client takes the place of the one that is closed. */
    restart() {
      this.client.close();
      this.client = connect();
    },
    /** Data of the messages and gaps of a channel, in the order in which they came. */
    listen(channel, options) {
      const seen = [];
      const onGap = ({ reason }) => seen.push(`gap:${reason}`);
      client.subscribe(channel, ({ data }) => seen.push(data), { onGap, ...options });
      return seen;
    },
    of: (type) => events.filter(([name]) => name === type).map(([, detail]) => detail),
    publish: (channel, ...values) => hub.publish(channel, values.map((data) => ({ data }))),
  };
}

/** Numbers in [0, 1) from a seed: the same seed, the same history (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
