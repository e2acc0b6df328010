/** A client with a cache and an origin behind it, in time that the test moves. */
import { Origin } from './origin.js';
import { world } from './world.js';

/** A world with an origin behind it, and a cache that holds a lease. */
export async function caching(options, worldOptions) {
  const w = world(worldOptions);
  const cache = w.client.cache(options);
  await w.clock.advance(10);
  return { ...w, cache, origin: new Origin(w) };
}

/** What a promise comes to while `ms` pass. */
export async function after(w, ms, promise) {
  let outcome = 'pending';
  promise.then((value) => (outcome = value), (error) => (outcome = error));
  // The body of a response comes in its own time, though no time passes.
  await new Promise((resolve) => setImmediate(resolve));
  await w.clock.advance(ms);
  return outcome;
}

/** The commands of this name that the client has sent. */
export const commands = ({ network }, name) => network.sockets.flatMap(({ received }) => received).filter((command) => name in command);

/** What a listener is shown, as `value state`. */
export function shown(w, key, options) {
  const seen = [];
  w.cache.subscribe(key, ({ value, state }) => seen.push(`${value} ${state}`), options);
  return seen;
}
