/** TanStack Query as it is released: what it forgets by itself, and what it does not with the cache below it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueryClient, QueryObserver } from '@tanstack/query-core';
import { tidingsQuery } from '../tanstack.js';
import { Origin } from './support/origin.js';
import { world } from './support/world.js';

const KEY = { queryKey: ['row'] };

/** The library tells its observers in the next turn. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

async function querying(t, worldOptions, cacheOptions) {
  const w = world(worldOptions);
  const origin = new Origin(w);
  const cache = w.client.cache(cacheOptions);
  const client = new QueryClient();
  client.mount();
  const fresh = tidingsQuery(cache, client);
  t.after(() => (fresh.end(), client.clear(), client.unmount(), w.client.close()));
  await w.clock.advance(10);
  const pass = async (ms) => (await w.clock.advance(ms), turn());
  const options = fresh({ ...KEY, queryFn: origin.fetcher('row'), retry: false });
  const query = () => client.getQueryCache().find(KEY);
  const observe = () => new QueryObserver(client, options).subscribe(() => {});
  return { ...w, origin, cache, client, fresh, pass, options, query, observe };
}

/** The library alone, with an endless `staleTime` and an invalidation where a tag is told to be touched. */
function plain(t) {
  const client = new QueryClient();
  client.mount();
  t.after(() => (client.clear(), client.unmount()));
  const w = { value: 1, arrive: [] };
  const queryFn = () => {
    const { value } = w;
    return new Promise((resolve) => w.arrive.push(() => resolve(value)));
  };
  const options = { ...KEY, staleTime: Infinity, queryFn };
  const mutate = () => (w.value++, client.invalidateQueries(KEY));
  return { ...w, w, client, options, mutate, query: () => client.getQueryCache().find(KEY) };
}

test('by itself, the library forgets an invalidation during the first fetch', async (t) => {
  const { w, client, options, mutate, query } = plain(t);
  t.after(new QueryObserver(client, options).subscribe(() => {}));
  await turn();
  mutate();
  w.arrive[0]();
  await turn();
  assert.deepEqual([query().state.data, w.value, w.arrive.length], [1, 2, 1]);
  assert.deepEqual([query().state.isInvalidated, query().isStale()], [false, false]);
});

test('by itself, the library forgets an invalidation while a query is fetched that nobody looks at', async (t) => {
  const { w, client, options, mutate, query } = plain(t);
  const prefetch = (more) => client.prefetchQuery({ ...options, ...more });
  const [first] = [prefetch(), await turn(), w.arrive[0]()];
  await first;
  const second = prefetch({ staleTime: 0 });
  await turn();
  mutate();
  w.arrive[1]();
  await second;
  assert.deepEqual([query().state.data, w.value, query().state.isInvalidated], [1, 2, false]);
  assert.equal(query().isStaleByTime(Infinity), false);
});

test('a mutation during the first fetch is not forgotten', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(15);
  w.origin.write('row');
  await w.pass(200);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [1, false]);
  assert.equal(w.origin.reads, 2);
});

test('a mutation while a query is fetched that nobody looks at is not forgotten', async (t) => {
  const w = await querying(t);
  w.client.prefetchQuery(w.options);
  await w.pass(100);
  w.client.invalidateQueries(KEY);
  w.client.prefetchQuery(w.options);
  await w.pass(15);
  w.origin.write('row');
  await w.pass(200);
  assert.deepEqual([w.query().state.data, w.query().state.isInvalidated], [1, false]);
  assert.equal(w.origin.reads, 3);
});

test('a mutation is fetched by itself where somebody looks, and else marked', async (t) => {
  const w = await querying(t);
  const end = w.observe();
  await w.pass(100);
  w.origin.write('row');
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [1, false]);
  end();
  w.origin.write('row');
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.query().state.isInvalidated, w.origin.reads], [1, true, 2]);
  t.after(w.observe());
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.query().isStale(), w.origin.reads], [2, false, 3]);
});

test('what nothing touches is not fetched again, however often it is looked at', async (t) => {
  const w = await querying(t);
  for (let n = 0; n < 3; n++) {
    const end = w.observe();
    await w.pass(60_000);
    end();
  }
  assert.equal(w.origin.reads, 1);
});

test('a mutation that comes while the value is on its way to the library is not forgotten', async (t) => {
  const w = await querying(t);
  const { get } = w.cache;
  w.cache.get = async (...args) => {
    const view = await get.apply(w.cache, args);
    w.cache.mutated({ tags: ['row'], position: w.origin.write('row') });
    w.cache.get = get;
    return view;
  };
  t.after(w.observe());
  await w.pass(22);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [0, true]);
  await w.pass(200);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [1, false]);
});

test('without a lease nothing is fresh, and nothing is fetched over and over', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  w.network.reachable = false;
  w.network.socket.cut();
  await w.pass(15_000);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [0, true]);
  await w.pass(90_000);
  assert.ok(w.origin.reads <= 5, `${w.origin.reads} reads`);
  w.network.reachable = true;
  w.client.getQueryCache();
  await w.pass(60_000);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [0, false]);
});

test('what a program sets by hand is nothing that the cache vouches for', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  w.client.setQueryData(KEY.queryKey, 'hoped for');
  assert.deepEqual([w.query().state.data, w.query().state.isInvalidated], ['hoped for', true]);
  w.client.invalidateQueries(KEY);
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.query().isStale(), w.origin.reads], [0, false, 2]);
});

test('what the cache gets in another way reaches the library', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  const position = w.origin.write('row');
  w.cache.set(w.query().queryHash, 'answer of the mutation', { tags: ['row'], basis: position });
  await w.pass(0);
  assert.deepEqual([w.query().state.data, w.query().isStale()], ['answer of the mutation', false]);
});

test('what may not be seen any more is gone from the library, too', async (t) => {
  const w = await querying(t);
  w.client.prefetchQuery(w.options);
  await w.pass(100);
  w.network.socket.push({ reset: { scope: 'all', at: w.hub.log().position, reason: 'auth' } });
  await w.pass(0);
  assert.equal(w.query().state.data, undefined);
});

test('a query that the library drops is watched no more', async (t) => {
  const w = await querying(t);
  w.client.prefetchQuery(w.options);
  await w.pass(100);
  w.client.removeQueries(KEY);
  await w.pass(10);
  assert.deepEqual(w.network.socket.received.filter(({ unwatch }) => unwatch).map(({ unwatch }) => unwatch.tags), [['row']]);
});

test('whoever invalidates or fetches again while a query is fetched gets a fetch that began after that', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  const ways = {
    invalidate: () => w.client.invalidateQueries(KEY),
    refetch: () => w.client.refetchQueries(KEY),
  };
  let value = 0;
  for (const [name, way] of Object.entries(ways)) {
    way();
    await w.pass(15);
    w.origin.write('row', { tell: false });
    value++;
    way();
    await w.pass(100);
    assert.deepEqual([w.query().state.data, w.query().isStale()], [value, false], name);
  }
});

test('a user who fetches again gets what is there, though the cache holds a fresh value', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  w.origin.write('row', { tell: false });
  w.client.refetchQueries(KEY);
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.origin.reads], [1, 2]);
});

test('what the cache has fresh is given to a query that begins, and not read again', async (t) => {
  const w = await querying(t);
  const got = w.cache.get(w.client.getQueryCache().build(w.client, w.options).queryHash, w.origin.fetcher('row'));
  await w.pass(100);
  await got;
  t.after(w.observe());
  await w.pass(100);
  assert.deepEqual([w.query().state.data, w.query().isStale(), w.origin.reads], [0, false, 1]);
});

test('a query whose tag is written faster than it is read shows the newest reading, and is no error', async (t) => {
  const w = await querying(t);
  t.after(w.observe());
  await w.pass(100);
  w.origin.before = w.origin.after = 125;
  for (let n = 0; n < 50; n++) {
    w.origin.write('row');
    await w.pass(200);
    assert.equal(w.query().state.status, 'success');
    if (n > 9) assert.ok(w.origin.value('row') - w.query().state.data <= 8, `${w.query().state.data} of ${w.origin.value('row')}`);
  }
  await w.pass(3_000);
  assert.deepEqual([w.query().state.data, w.query().isStale()], [50, false]);
});

test('what the cache is told for all values holds for queries, too', async (t) => {
  const w = await querying(t, {}, { ttl: 1_000 });
  w.client.prefetchQuery(w.options);
  await w.pass(100);
  assert.equal(w.query().isStale(), false);
  await w.pass(1_000);
  assert.equal(w.query().isStale(), true);
});

test('whoever asks for the adapter with every render gets the same one, until it is ended', async (t) => {
  const w = await querying(t);
  assert.equal(tidingsQuery(w.cache, w.client), w.fresh);
  const other = world();
  t.after(() => other.client.close());
  assert.notEqual(tidingsQuery(other.client.cache(), w.client), w.fresh);
  w.fresh.end();
  const next = tidingsQuery(w.cache, w.client);
  t.after(() => next.end());
  assert.notEqual(next, w.fresh);
});
