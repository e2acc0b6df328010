/** The client's manners: listeners, requests, streams, states. Continuity has its own tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TidingsError, tidings } from '../tidings.js';
import { world } from './support/world.js';

const commands = ({ network }, name) => network.sockets.flatMap(({ received }) => received).filter((command) => name in command);

/** The rejection of `promise`, which is a TidingsError. */
async function refusal(promise) {
  const error = await promise.then(() => assert.fail('it was accepted'), (reason) => reason);
  assert.ok(error instanceof TidingsError, String(error));
  return { code: error.code, retryable: error.retryable };
}

test('listeners of a channel share one subscription, and the last one ends it', async () => {
  const w = world();
  const seen = w.listen('tickets');
  const off = w.client.subscribe('tickets', ({ data }) => seen.push(`second ${data}`));
  await w.clock.advance(10);
  w.publish('tickets', 1);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 'second 1']);
  assert.equal(commands(w, 'subscribe').length, 1);
  off();
  off();
  w.publish('tickets', 2);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 'second 1', 2]);
  assert.equal(commands(w, 'unsubscribe').length, 0);
});

test('an aborted signal ends a subscription, and one aborted before begins none', async () => {
  const w = world();
  const abort = new AbortController();
  const seen = w.listen('tickets', { signal: abort.signal });
  await w.clock.advance(10);
  abort.abort();
  w.publish('tickets', 1);
  w.listen('other', { signal: abort.signal });
  await w.clock.advance(10);
  assert.deepEqual(seen, []);
  assert.deepEqual(commands(w, 'unsubscribe').map(({ unsubscribe }) => unsubscribe.channel), ['tickets']);
  assert.equal(commands(w, 'subscribe').length, 1);
});

test('a subscription since a position, as text or object, brings what came after it', async () => {
  const w = world();
  const { epoch } = w.publish('tickets', 1, 2, 3);
  const text = w.listen('tickets', { since: `${epoch}.1` });
  await w.clock.advance(10);
  assert.deepEqual(text, [2, 3]);
  assert.deepEqual(w.client.position('tickets'), { epoch, offset: 3 });
  assert.equal(w.client.position('unknown'), null);
  for (const since of ['12', { epoch: 'a' }, { epoch: 'a', offset: -1 }, 'a.1.5x']) {
    assert.throws(() => w.listen('bad', { since }), /not a position/);
  }
});

test('a listener that throws is reported and disturbs nobody', async () => {
  const w = world();
  w.client.subscribe('tickets', () => {
    throw new Error('a bug');
  });
  const seen = w.listen('tickets');
  await w.clock.advance(10);
  w.publish('tickets', 1, 2);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(w.of('error').map(({ message }) => message), ['a bug', 'a bug']);
});

test('a listener may leave, or close everything, while it is called', async () => {
  const w = world();
  const seen = [];
  const off = w.client.subscribe('a', ({ data }) => (seen.push(data), off()));
  w.client.subscribe('b', ({ data }) => (seen.push(data), w.client.close()));
  await w.clock.advance(10);
  w.publish('a', 1, 2);
  await w.clock.advance(10);
  w.publish('b', 3, 4);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 3]);
  assert.equal(w.client.state, 'offline');
  assert.equal(w.clock.pending, 0);
});

test('a listener that leaves while it catches up asks for no more pages', async () => {
  const w = world({ hub: { page: 1 } });
  const { epoch } = w.publish('tickets', 1, 2, 3);
  const abort = new AbortController();
  w.client.subscribe('tickets', () => abort.abort(), { since: { epoch, offset: 0 }, signal: abort.signal });
  await w.clock.advance(10);
  assert.equal(commands(w, 'history').length, 0);
});

test('a message has what was published with it, and bytes are bytes', async () => {
  const w = world();
  const messages = [];
  w.client.subscribe('tickets', (message) => messages.push(message));
  await w.clock.advance(10);
  const published = w.client.publish('tickets', new Uint8Array([0, 1, 254]).subarray(1), { key: 'k' });
  await w.clock.advance(10);
  const { position } = await published;
  assert.deepEqual(messages.map(({ time, ...message }) => message), [
    { channel: 'tickets', data: new Uint8Array([1, 254]), ...position, id: undefined, key: 'k' },
  ]);
  assert.equal(typeof messages[0].time, 'number');
});

test('a publish before the connection waits for it, and is answered with a position', async () => {
  const w = world();
  const published = w.client.publish('tickets', { id: 42 }, { idempotencyKey: 'k-1' });
  await w.clock.advance(10);
  assert.deepEqual(await published, { position: w.hub.channel('tickets').position, ack: 'stored' });
  const publish = { channel: 'tickets', data: { id: 42 }, idempotency_key: 'k-1' };
  assert.deepEqual(commands(w, 'publish'), [{ id: 1, publish }]);
});

test('a publish at the moment of going live is sent once', async () => {
  const w = world();
  w.listen('tickets');
  w.client.addEventListener('state', ({ detail }) => detail === 'live' && w.client.publish('tickets', 1));
  await w.clock.advance(10);
  assert.equal(commands(w, 'publish').length, 1);
});

test('what became of a publish is said as far as it is known', async () => {
  const w = world();
  w.network.reachable = false;
  const never = refusal(w.client.publish('tickets', 1));
  await w.clock.advance(10_000);
  assert.deepEqual(await never, { code: 'not_connected', retryable: true });

  w.network.reachable = true;
  await w.clock.advance(60_000);
  const cut = refusal(w.client.publish('tickets', 2));
  w.network.socket.cut();
  assert.deepEqual(await cut, { code: 'outcome_unknown', retryable: true });

  await w.clock.advance(60_000);
  w.network.socket.stall();
  const silent = refusal(w.client.publish('tickets', 3));
  await w.clock.advance(10_000);
  assert.deepEqual(await silent, { code: 'outcome_unknown', retryable: true });
});

test('a server error, data that JSON cannot say, and too many requests reject the promise alone', async () => {
  const w = world();
  await w.clock.advance(10);
  const refused = refusal(w.client.publish('tickets', 1));
  w.network.socket.push({ id: 1, error: { code: 'rate_limited', message: 'slower', retryable: true } });
  assert.deepEqual(await refused, { code: 'rate_limited', retryable: true });
  await assert.rejects(w.client.publish('tickets', 1n), /BigInt/);
  for (let i = 0; i < 256; i++) w.client.publish('tickets', i);
  assert.deepEqual(await refusal(w.client.publish('tickets', 256)), { code: 'limit_reached', retryable: true });
  await w.clock.advance(10);
  assert.deepEqual(w.of('error'), []);
});

test('history is read apart from any subscription', async () => {
  const w = world();
  const { epoch } = w.publish('tickets', 1, 2, 3);
  const history = w.client.history('tickets', { since: { epoch, offset: 1 }, limit: 1 });
  await w.clock.advance(10);
  const { messages, position, more } = await history;
  assert.deepEqual(messages.map(({ data, offset, epoch: of }) => [data, offset, of]), [[2, 2, epoch]]);
  assert.deepEqual([position, more], [{ epoch, offset: 2 }, true]);
});

test('a refused channel ends with an error, and the others go on', async () => {
  const w = world();
  const seen = w.listen('tickets');
  const stream = w.client.stream('secret');
  w.listen('secret');
  const refused = refusal(stream.next());
  await w.clock.advance(10);
  assert.deepEqual(await refused, { code: 'channel_not_allowed', retryable: false });
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  w.publish('tickets', 1);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1]);
  assert.deepEqual(w.of('error').map(({ code, channel }) => [code, channel]), [['channel_not_allowed', 'secret']]);
});

test('a subscription that is refused for now is asked for again', async () => {
  const w = world({ latency: () => 50 });
  const seen = w.listen('tickets');
  await w.clock.advance(110);
  w.network.socket.push({ id: 1, error: { code: 'broker_unavailable', message: 'no broker', retryable: true } });
  await w.clock.advance(149);
  assert.equal(commands(w, 'subscribe').length, 1);
  await w.clock.advance(1);
  assert.equal(commands(w, 'subscribe').length, 2);
  assert.deepEqual([seen, w.of('error')], [[], []]);
});

test('a stream yields messages and gaps, and ends on abort', async () => {
  const w = world();
  const abort = new AbortController();
  const stream = w.client.stream('volatile', { signal: abort.signal });
  const items = [];
  const loop = (async () => {
    for await (const item of stream) items.push(item.gap ? item.gap.reason : item.data);
  })();
  await w.clock.advance(10);
  w.publish('volatile', 1, 2);
  await w.clock.advance(10);
  w.network.socket.cut();
  await w.clock.advance(1000);
  w.publish('volatile', 3);
  await w.clock.advance(10);
  abort.abort();
  await loop;
  assert.deepEqual(items, [1, 2, 'lost', 3]);
});

test('an aborted stream ends at once, whatever is queued', async () => {
  const w = world();
  const abort = new AbortController();
  const stream = w.client.stream('tickets', { signal: abort.signal });
  await w.clock.advance(10);
  w.publish('tickets', 1, 2);
  await w.clock.advance(10);
  assert.equal((await stream.next()).value.data, 1);
  abort.abort();
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test('breaking out of a stream unsubscribes', async () => {
  const w = world();
  const stream = w.client.stream('tickets');
  await w.clock.advance(10);
  w.publish('tickets', 1, 2);
  await w.clock.advance(10);
  for await (const { data } of stream) {
    assert.equal(data, 1);
    break;
  }
  await w.clock.advance(10);
  assert.equal(commands(w, 'unsubscribe').length, 1);
  assert.equal(w.client.position('tickets'), null);
});

test('a loop that is too slow finds a gap where messages were dropped', async () => {
  const w = world();
  const stream = w.client.stream('tickets');
  await w.clock.advance(10);
  const publish = async (from, to) => {
    for (let n = from; n <= to; n++) w.publish('tickets', n);
    await w.clock.advance(10);
  };
  const take = async (count) => {
    const items = [];
    for (let i = 0; i < count; i++) items.push((await stream.next()).value);
    return items.map(({ gap, data }) => (gap ? `gap to ${gap.position.offset}` : data));
  };
  await publish(1, 1030);
  assert.deepEqual((await take(1025)).slice(-2), [1024, 'gap to 1030']);
  await publish(1031, 2060);
  assert.deepEqual(await take(1), [1031]);
  await publish(2061, 2061);
  const rest = await take(1025);
  assert.deepEqual(rest.slice(-3), [2054, 'gap to 2060', 2061]);
});

test('the state says what one can rely on', async () => {
  const w = world({ hub: { page: 1 } });
  const { epoch } = w.publish('tickets', 1, 2, 3);
  await w.clock.advance(10);
  w.listen('tickets', { since: { epoch, offset: 0 } });
  await w.clock.advance(10);
  w.network.socket.push({ degraded: { component: 'redis' } });
  w.network.socket.push({ restored: { component: 'redis' } });
  w.network.socket.cut();
  await w.clock.advance(1000);
  w.client.close();
  const states = ['live', 'catching-up', 'live', 'degraded', 'live', 'offline', 'connecting', 'catching-up', 'live', 'offline'];
  assert.deepEqual(w.of('state'), states);
});

test('an outage of the server is told, and ends no connection', async () => {
  const w = world();
  const seen = w.listen('tickets');
  await w.clock.advance(10);
  const [degraded, restored] = [{ component: 'redis', since: 5 }, { component: 'redis' }];
  const states = [];
  for (const type of ['degraded', 'restored']) w.client.addEventListener(type, () => states.push(w.client.state));
  w.network.socket.push({ degraded });
  w.publish('tickets', 1);
  w.network.socket.push({ restored });
  await w.clock.advance(10);
  assert.deepEqual([w.of('degraded'), w.of('restored')], [[degraded], [restored]]);
  assert.deepEqual([states, seen, w.network.sockets.length], [['degraded', 'live'], [1], 1]);
});

test('what was degraded on one connection is not taken to the next', async () => {
  const w = world();
  await w.clock.advance(10);
  w.network.socket.push({ degraded: { component: 'redis' } });
  assert.equal(w.client.state, 'degraded');
  w.network.socket.cut();
  await w.clock.advance(1000);
  assert.equal(w.client.state, 'live');
});

test('a closed client refuses everything, and says why', async () => {
  const w = world();
  const stream = w.client.stream('tickets');
  const waiting = refusal(w.client.publish('tickets', 1));
  w.client.close();
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  assert.equal((await waiting).code, 'not_connected');
  assert.equal((await refusal(w.client.publish('tickets', 1))).code, 'closed');
  assert.throws(() => w.listen('tickets'), { code: 'closed' });
});

test('what is no address, channel or listener is refused at once', () => {
  const w = world();
  assert.throws(() => tidings('ftp://hub.test', { WebSocket: class {} }), /not an http or ws address/);
  assert.throws(() => tidings('nonsense', { WebSocket: class {} }), TypeError);
  assert.throws(() => w.client.subscribe('', () => {}), /not a channel name/);
  assert.throws(() => w.client.subscribe('tickets'), /fn is not a function/);
});

test('history says why it does not continue the position that was asked for', async () => {
  const w = world({ hub: { historySize: 3 } });
  w.publish('tickets', 1, 2, 3, 4, 5);
  const { epoch } = w.hub.channel('tickets');
  const ask = async (offset) => {
    const asked = w.client.history('tickets', { since: { epoch, offset } });
    await w.clock.advance(10);
    const { messages, gap } = await asked;
    return [messages.map(({ data }) => data), gap];
  };
  assert.deepEqual(await ask(0), [[3, 4, 5], 'trimmed']);
  assert.deepEqual(await ask(3), [[4, 5], null]);
});

test('a channel that has ended leaves nothing on the signal', async () => {
  const w = world();
  const { signal } = new AbortController();
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  const held = new Set();
  signal.addEventListener = (type, listener) => (held.add(listener), add(type, listener));
  signal.removeEventListener = (type, listener) => (held.delete(listener), remove(type, listener));
  const off = w.client.subscribe('tickets', () => {}, { signal });
  for (const refused of ['secret:1', 'secret:2']) w.client.subscribe(refused, () => {}, { signal });
  w.client.subscribe('open', () => {}, { signal });
  assert.equal(held.size, 4);
  await w.clock.advance(10);
  assert.deepEqual([held.size, w.of('error').length], [2, 2], 'refused channels let go of it');
  off();
  assert.equal(held.size, 1);
  w.client.close();
  assert.equal(held.size, 0);
});
