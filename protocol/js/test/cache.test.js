/** The cache's manners: when it reads, what it serves, and how it labels it. The books have their own tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labelled } from '../reading.js';
import { after, caching, commands, shown } from './support/caching.js';
import { world } from './support/world.js';

const LEASE_MS = 15_000;

test('a value is read once, and served as long as nothing touches it', async () => {
  const w = await caching();
  const read = () => after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  assert.deepEqual(await read(), { value: 0, state: 'fresh' });
  w.hub.mutate(['other']);
  await w.clock.advance(60_000);
  assert.deepEqual(await read(), { value: 0, state: 'fresh' });
  assert.equal(w.origin.reads, 1);
  w.origin.write('row');
  await w.clock.advance(10);
  assert.deepEqual(w.cache.peek('k'), { value: 0, state: 'stale' });
  assert.deepEqual(await read(), { value: 1, state: 'fresh' });
  assert.equal(w.origin.reads, 2);
});

test('a mutation between the read and its arrival is not lost, though the tags were not known before', async () => {
  const w = await caching();
  const got = w.cache.get('k', w.origin.fetcher('row'));
  await w.clock.advance(15);
  w.origin.write('row');
  assert.deepEqual(await after(w, 200, got), { value: 1, state: 'fresh' });
  assert.equal(w.origin.reads, 2);
});

test('a mutation of a watched tag during a read begins the read again at once', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  w.origin.write('row');
  await w.clock.advance(5);
  const signals = [];
  const fetcher = w.origin.fetcher('row');
  const got = w.cache.get('k', (options) => (signals.push(options), fetcher()));
  await w.clock.advance(15);
  w.origin.write('row');
  await w.clock.advance(3);
  assert.deepEqual(signals.map(({ signal }) => signal.aborted), [true]);
  assert.deepEqual(await after(w, 100, got), { value: 2, state: 'fresh' });
});

test('whoever loses three races is shown what there is, as stale', async () => {
  const w = await caching();
  const fetcher = w.origin.fetcher('row');
  const racing = () => {
    w.clock.setTimeout(() => w.origin.write('row'), 15);
    return fetcher();
  };
  assert.deepEqual(await after(w, 1_000, w.cache.get('k', racing)), { value: 2, state: 'stale' });
  assert.equal(w.origin.reads, 3);
});

test('whoever asks while a value is read gets the same read', async () => {
  const w = await caching();
  const both = Promise.all([1, 2].map(() => w.cache.get('k', w.origin.fetcher('row'))));
  assert.deepEqual(await after(w, 100, both), [{ value: 0, state: 'fresh' }, { value: 0, state: 'fresh' }]);
  assert.equal(w.origin.reads, 1);
});

test('a fetcher is told the basis, and to ask past every cache on the way', async () => {
  const w = await caching();
  const { epoch } = w.hub.mutate(['x']);
  await w.clock.advance(6_000);
  const seen = [];
  await after(w, 100, w.cache.get('k', async (options) => (seen.push(options), 1)));
  const [{ basis, signal, cache, headers }] = seen;
  assert.deepEqual([basis, signal.aborted, cache, headers], [{ epoch, offset: 1 }, false, 'no-cache', { 'Tidings-Min': `${epoch}.1` }]);
});

test('a response says in its headers what it depends on and how old it is', async () => {
  const w = await caching();
  const { epoch } = w.origin.write('row');
  const headers = { 'content-type': 'application/json', 'cache-groups': '"row", "list:1";x=2', 'tidings-basis': `${epoch}.1` };
  const answer = async () => new Response('{"id":1}', { headers });
  assert.deepEqual(await after(w, 100, w.cache.get('k', answer)), { value: { id: 1 }, state: 'fresh' });
  assert.deepEqual(commands(w, 'watch').at(-1).watch.groups, [{ since: { epoch, offset: 1 }, tags: ['list:1', 'row'] }]);
  const old = async () => new Response('"old"', { headers: { ...headers, 'tidings-basis': `${epoch}.0` } });
  assert.deepEqual((await after(w, 100, w.cache.get('old', old))).state, 'stale');
});

test('a response that is none is an error', async () => {
  const w = await caching();
  const seen = shown(w, 'k');
  const failing = async () => new Response('', { status: 503 });
  const error = await after(w, 100, w.cache.get('k', failing));
  assert.deepEqual([error.code, error.retryable], ['http_503', true]);
  assert.equal((await after(w, 100, w.cache.get('k', async () => labelled(1, { tags: ['not a tag'] })))).name, 'TypeError');
  assert.deepEqual(seen, []);
});

test('a stale value is given at once where that is wanted, and read again behind it', async () => {
  const w = await caching({ swr: true });
  const get = (policy) => w.cache.get('k', w.origin.fetcher('row'), policy);
  assert.deepEqual(await after(w, 100, get()), { value: 0, state: 'fresh' });
  const seen = shown(w, 'k');
  w.origin.write('row', { tell: true });
  await w.clock.advance(2);
  assert.deepEqual(await after(w, 0, get()), { value: 0, state: 'stale' });
  await w.clock.advance(100);
  assert.deepEqual(seen, ['0 fresh', '0 stale', '1 fresh']);
  w.origin.write('row');
  await w.clock.advance(2);
  assert.deepEqual(await after(w, 100, get({ strict: true })), { value: 2, state: 'fresh' });
});

test('a time to live is a limit on top of the rule', async () => {
  const w = await caching();
  const get = () => after(w, 100, w.cache.get('k', w.origin.fetcher('row'), { ttl: 1_000 }));
  await get();
  w.origin.write('row', { tell: false });
  assert.deepEqual(await get(), { value: 0, state: 'fresh' });
  await w.clock.advance(1_000);
  assert.deepEqual(w.cache.peek('k'), { value: 0, state: 'stale' });
  assert.deepEqual(await get(), { value: 1, state: 'fresh' });
});

test('what is forced is read, though it is fresh', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row'), { force: true }));
  assert.equal(w.origin.reads, 2);
});

test('after a cut everything stays fresh until the lease ends, and then nothing is', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const seen = shown(w, 'k', { refetch: false });
  w.network.reachable = false;
  w.network.socket.cut();
  await w.clock.advance(LEASE_MS - 5_200);
  assert.deepEqual(seen, ['0 fresh']);
  await w.clock.advance(5_200);
  assert.deepEqual(seen, ['0 fresh', '0 stale']);
});

test('a half-open connection ends the lease, too', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const seen = shown(w, 'k', { refetch: false });
  w.network.reachable = false;
  w.network.socket.stall();
  w.origin.write('row');
  await w.clock.advance(LEASE_MS);
  assert.deepEqual(seen, ['0 fresh', '0 stale']);
});

test('whoever is back proves what it has and reads only what became stale', async () => {
  const w = await caching();
  const rows = ['a', 'b', 'c'];
  for (const row of rows) await after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  w.network.reachable = false;
  w.network.socket.cut();
  await w.clock.advance(60_000);
  w.origin.write('b');
  w.network.reachable = true;
  w.client.reconnect();
  const values = await after(w, 500, Promise.all(rows.map((row) => w.cache.get(row, w.origin.fetcher(row)))));
  assert.deepEqual(values, [0, 1, 0].map((value) => ({ value, state: 'fresh' })));
  assert.equal(w.origin.reads, 4);
});

test('without a server a value is read again now and then, and never called fresh', async () => {
  const w = await caching();
  w.network.reachable = false;
  w.network.socket.cut();
  await w.clock.advance(60_000);
  const get = () => after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  for (let n = 0; n < 5; n++) assert.deepEqual(await get(), { value: 0, state: 'stale' });
  assert.equal(w.origin.reads, 1);
  await w.clock.advance(30_000);
  await get();
  assert.equal(w.origin.reads, 2);
  w.network.reachable = true;
  w.client.reconnect();
  await w.clock.advance(100);
  assert.deepEqual(await get(), { value: 0, state: 'fresh' });
});

test('what is looked at is read again by itself; what is not is merely marked', async () => {
  const w = await caching();
  for (const row of ['a', 'b']) await after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  const [a, b] = [shown(w, 'a'), shown(w, 'b', { refetch: false })];
  w.origin.write('a');
  w.origin.write('b');
  await w.clock.advance(100);
  assert.deepEqual([a, b], [['0 fresh', '0 stale', '1 fresh'], ['0 fresh', '0 stale']]);
});

test('reads of what became stale are spread as the server asks, and wait while the page is hidden', async () => {
  const document = { hidden: false };
  const window = Object.assign(new EventTarget(), { document });
  const w = await caching({}, { window });
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const seen = shown(w, 'k');
  w.hub.spreadMs = 2_000;
  w.origin.write('row');
  await w.clock.advance(900);
  assert.equal(w.origin.reads, 1);
  await w.clock.advance(200);
  assert.deepEqual(seen, ['0 fresh', '0 stale', '1 fresh']);
  document.hidden = true;
  w.origin.write('row');
  await w.clock.advance(10_000);
  assert.equal(w.origin.reads, 2);
  document.hidden = false;
  window.dispatchEvent(new Event('visibilitychange'));
  await w.clock.advance(1_100);
  assert.equal(seen.at(-1), '2 fresh');
});

test('a page that slept asks before it serves', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  w.network.socket.stall();
  w.origin.write('row');
  w.clock.sleep(3_600_000);
  assert.equal(w.cache.peek('k').state, 'stale', 'the lease did not outlive the sleep');
  w.window.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual(await after(w, 20_000, w.cache.get('k', w.origin.fetcher('row'))), { value: 1, state: 'stale' });
  assert.deepEqual(await after(w, 20_000, w.cache.get('k', w.origin.fetcher('row'))), { value: 1, state: 'fresh' });
});

test('a page that slept with a good connection needs only a word', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  w.clock.sleep(3_600_000);
  assert.deepEqual(await after(w, 100, w.cache.get('k', w.origin.fetcher('row'))), { value: 0, state: 'fresh' });
  assert.equal(w.origin.reads, 1);
});

test('an own mutation is never forgotten, and its answer may be shown', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  w.network.socket.stall();
  const position = w.origin.write('row');
  w.cache.mutated({ tags: ['row'], position });
  assert.equal(w.cache.peek('k').state, 'stale');
  assert.equal(w.cache.set('k', 'of before', { tags: ['row'], basis: { ...position, offset: position.offset - 1 } }), false);
  assert.equal(w.cache.set('k', 1, { tags: ['row'], basis: position }), true);
  assert.deepEqual(w.cache.peek('k'), { value: 1, state: 'fresh' });
});

test('a response of a mutation says what it touched', async () => {
  const w = await caching();
  for (const row of ['a', 'b']) await after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  w.network.socket.stall();
  const position = w.origin.write('a');
  const headers = { 'cache-group-invalidation': '"a"', 'tidings-basis': `${position.epoch}.${position.offset}` };
  w.cache.mutated(new Response('', { headers }));
  assert.deepEqual([w.cache.peek('a').state, w.cache.peek('b').state], ['stale', 'fresh']);
  w.cache.mutated(new Response('', { headers: { 'cache-group-invalidation': '"b"' } }));
  assert.equal(w.cache.peek('b').state, 'stale');
});

test('a mutation without a position begins every read again', async () => {
  const w = await caching();
  const got = w.cache.get('k', w.origin.fetcher('row'));
  await w.clock.advance(15);
  w.origin.write('row', { tell: false });
  w.cache.mutated({ tags: ['row'] });
  assert.deepEqual(await after(w, 100, got), { value: 1, state: 'fresh' });
});

test('values are kept over a restart with their basis, and proven before they are called fresh', async () => {
  const kept = new Map();
  const persist = { load: () => kept, save: (key, entry) => (entry ? kept.set(key, entry) : kept.delete(key)) };
  const before = await caching({ persist });
  for (const row of ['a', 'b', 'c']) await after(before, 100, before.cache.get(row, before.origin.fetcher(row)));
  before.cache.forget('c');
  before.client.close();
  assert.deepEqual([...kept.keys()], ['a', 'b']);
  const w = world({ hub: before.hub });
  w.hub.logs = before.hub.logs;
  before.origin.hub = w.hub;
  before.origin.write('b');
  const cache = w.client.cache({ persist });
  await w.clock.advance(0);
  assert.deepEqual(cache.peek('a'), { value: 0, state: 'stale' });
  await w.clock.advance(20);
  assert.deepEqual([cache.peek('a').state, cache.peek('b').state, cache.peek('c')], ['fresh', 'stale', undefined]);
});

test('what may not be seen any more is gone, from memory and from what is kept', async () => {
  const saved = [];
  const w = await caching({ persist: { load: () => [], save: (key, entry) => saved.push([key, entry && entry.value]) } });
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const seen = shown(w, 'k', { refetch: false });
  w.network.socket.push({ reset: { scope: 'tags', tags: ['row'], at: w.hub.log().position, reason: 'auth' } });
  assert.equal(w.cache.peek('k'), undefined);
  assert.deepEqual(seen, ['0 fresh', 'undefined stale']);
  assert.deepEqual(saved, [['k', 0], ['k', null]]);
});

test('a tag that may not be watched makes a value that is never fresh, and is still served', async () => {
  const w = await caching();
  const get = () => after(w, 100, w.cache.get('k', w.origin.fetcher('secret')));
  assert.deepEqual(await get(), { value: 0, state: 'stale' });
  assert.deepEqual(await get(), { value: 0, state: 'stale' });
  assert.equal(w.origin.reads, 2);
});

test('the value that was used longest ago goes first, and nobody is told of its tags any more', async () => {
  const w = await caching({ maxEntries: 3 });
  const get = (row) => after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  for (const row of ['a', 'b', 'c']) await get(row);
  shown(w, 'b');
  await get('a');
  await get('d');
  await get('e');
  assert.deepEqual(['a', 'b', 'c', 'd', 'e'].filter((key) => w.cache.peek(key)), ['b', 'd', 'e']);
  assert.deepEqual(commands(w, 'unwatch').map(({ unwatch }) => unwatch.tags), [['c'], ['a']]);
});

test('what is in use just now is never the one that goes, though everybody listens', async () => {
  const w = await caching({ maxEntries: 3 });
  const seen = {};
  for (const row of ['a', 'b', 'c', 'd']) {
    seen[row] = shown(w, row);
    await after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  }
  w.origin.write('d');
  await w.clock.advance(100);
  assert.deepEqual(seen.d, ['0 fresh', '0 stale', '1 fresh']);
  assert.deepEqual(seen.a, ['0 fresh']);
});

test('policies that a get does not name stay as they were, and undefined names none', async () => {
  const w = await caching({ ttl: 1_000 });
  const state = async (key, policy, ms) => {
    await after(w, 100, w.cache.get(key, w.origin.fetcher(key), policy));
    await w.clock.advance(ms);
    return w.cache.peek(key).state;
  };
  assert.deepEqual([await state('a', { ttl: undefined }, 500), await state('a', {}, 2_000)], ['fresh', 'stale']);
  assert.equal(await state('b', { ttl: 60_000 }, 30_000), 'fresh');
  assert.equal(await state('b', {}, 20_000), 'fresh', 'the get without one is given what is held');
  await w.clock.advance(20_000);
  assert.equal(w.cache.peek('b').state, 'stale');
  assert.equal(await state('c', { ttl: Infinity }, 600_000), 'fresh');
});

test('a page that is shown again finds out about its connection, with a cache or without', async () => {
  for (const open of [(client) => client.cache(), () => {}]) {
    const w = world();
    const seen = w.listen('room');
    open(w.client);
    await w.clock.advance(2_000);
    w.network.socket.stall();
    w.publish('room', 'missed');
    w.window.dispatchEvent(new Event('visibilitychange'));
    await w.clock.advance(11_000);
    assert.deepEqual(seen, ['missed']);
    w.client.close();
  }
});

test('each log has its cache', async () => {
  const w = await caching();
  const shop = w.client.cache({ ns: 'shop' });
  assert.equal(w.client.cache({ ns: 'shop' }), shop);
  assert.notEqual(shop, w.cache);
  await w.clock.advance(10);
  await after(w, 100, shop.get('k', w.origin.fetcher('row')));
  w.hub.mutate(['row']);
  await w.clock.advance(10);
  assert.equal(shop.peek('k').state, 'fresh');
  w.hub.mutate(['row'], 'shop');
  await w.clock.advance(10);
  assert.equal(shop.peek('k').state, 'stale');
});

test('a client without a cache asks for no lease, and a closed one leaves no timer', async () => {
  const plain = world();
  await plain.clock.advance(20_000);
  assert.deepEqual([commands(plain, 'ping'), commands(plain, 'watch')], [[], []]);
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  shown(w, 'k');
  assert.ok(commands(w, 'ping').length >= 1);
  w.origin.write('row');
  await w.clock.advance(3);
  const late = w.cache.get('late', w.origin.fetcher('late'));
  w.client.close();
  await after(w, 1_000, late);
  assert.equal(w.clock.pending, 0);
  assert.throws(() => w.client.cache(), { code: 'closed' });
});

test('a watch that the server cannot answer just now is sent again', async () => {
  const w = await caching();
  const { session } = w.network.socket;
  const watch = session.watch.bind(session);
  session.watch = () => ({ error: { code: 'broker_unavailable', message: '', retryable: true } });
  await after(w, 10, w.cache.get('k', w.origin.fetcher('row')));
  await w.clock.advance(30);
  assert.equal(w.cache.peek('k'), undefined);
  session.watch = watch;
  await w.clock.advance(1_000);
  assert.deepEqual(w.cache.peek('k'), { value: 0, state: 'fresh' });
});
