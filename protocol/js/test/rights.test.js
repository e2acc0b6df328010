/** Tags that may not be watched, rights that end, and what is kept elsewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TidingsError, labelled } from '../tidings.js';
import { after, caching, commands, shown } from './support/caching.js';

const codes = (w) => w.of('error').map(({ code, tags }) => [code, ...(tags ?? [])]);

/** Persists in a map, and says what it was told. */
function keeping() {
  const kept = new Map();
  return { kept, persist: { load: () => kept, save: (key, entry) => (entry ? kept.set(key, entry) : kept.delete(key)) } };
}

async function reconnect(w) {
  w.client.reconnect();
  await w.clock.advance(100);
}

test('tags that are not granted, or for which there is no room, are reported once on a connection', async () => {
  const w = await caching();
  const row = (tags) => async () => labelled(1, { tags });
  for (const key of ['k', 'l']) await after(w, 100, w.cache.get(key, row(['row', 'secret:1', 'crowded:1'])));
  assert.deepEqual(codes(w), [['tag_not_allowed', 'secret:1'], ['limit_reached', 'crowded:1']]);
  await after(w, 100, w.cache.get('m', row(['secret:1', 'secret:2'])));
  assert.deepEqual(codes(w).slice(2), [['tag_not_allowed', 'secret:2']]);
  await reconnect(w);
  assert.deepEqual(codes(w).length, 5, 'once more on another connection');
});

test('a value with a tag that may not be watched is read again as seldom as one without a lease', async () => {
  const w = await caching();
  shown(w, 'k');
  await after(w, 100, w.cache.get('k', w.origin.fetcher('secret')));
  await w.clock.advance(10 * 30_000);
  assert.ok(w.origin.reads >= 9 && w.origin.reads <= 12, `${w.origin.reads} reads in five minutes`);
});

test('a watch that is refused is reported, and tried again where that may help', async () => {
  const w = await caching();
  const { session } = w.network.socket;
  const watch = session.watch.bind(session);
  const refuse = (code, retryable) => (session.watch = () => ({ error: { code, message: 'seen', retryable } }));
  refuse('limit_reached', true);
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  await w.clock.advance(2_000);
  assert.deepEqual(codes(w), [['limit_reached']]);
  session.watch = watch;
  await w.clock.advance(5_000);
  assert.equal(w.cache.peek('k').state, 'fresh');
  refuse('too_many_items', false);
  await after(w, 100, w.cache.get('l', w.origin.fetcher('other')));
  assert.deepEqual(codes(w).slice(1), [['too_many_items']]);
});

test('when the right to a tag has ended, what was read under it is gone everywhere; what the origin gives without it is shown', async () => {
  const { kept, persist } = keeping();
  const w = await caching({ persist });
  const get = (key, tag) => after(w, 100, w.cache.get(key, w.origin.fetcher(tag)));
  await get('salary', 'salary:1');
  await get('open', 'open:1');
  await get('never', 'secret:1');
  const seen = shown(w, 'salary', { refetch: false });
  w.hub.grants = (tag) => tag.startsWith('open');
  await reconnect(w);
  assert.deepEqual([w.cache.peek('salary'), seen.at(-1), [...kept.keys()]], [undefined, 'undefined stale', ['open']]);
  assert.deepEqual([w.cache.peek('open').state, w.cache.peek('never').state], ['fresh', 'stale']);
  assert.deepEqual(await get('salary', 'salary:1'), { value: 0, state: 'stale' });
  await reconnect(w);
  assert.deepEqual(w.cache.peek('salary'), { value: 0, state: 'stale' }, 'it was read without the right, and the origin gave it');
});

test('a tag for which there is no room any more takes nothing away', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('crowd')));
  const { attach } = w.hub;
  w.hub.attach = (send) => {
    const session = attach.call(w.hub, send);
    session.watch = ({ groups }) => {
      const denied = groups.flatMap(({ tags }) => tags);
      return { watched: { at: w.hub.log().position, stale: [], denied, no_room: denied, escalated: [] } };
    };
    return session;
  };
  await reconnect(w);
  assert.deepEqual(w.cache.peek('k'), { value: 0, state: 'stale' });
  assert.deepEqual(codes(w), [['limit_reached', 'crowd']]);
});

test('what was kept by somebody with another right is not shown', async () => {
  const { kept, persist } = keeping();
  kept.set('salary', { value: 1, tags: ['secret:1'], basis: { epoch: '1-log', offset: 0 } });
  kept.set('open', { value: 1, tags: ['open'], basis: { epoch: '1-log', offset: 0 } });
  const w = await caching({ persist });
  await w.clock.advance(100);
  assert.deepEqual([w.cache.peek('salary'), [...kept.keys()]], [undefined, ['open']]);
});

test('a reset for the sake of rights takes away what the ledger does not know, too', async () => {
  const w = await caching();
  w.cache.set('k', 'secret', { tags: ['row'] });
  w.cache.set('l', 'other', { tags: ['other'] });
  w.network.socket.push({ reset: { scope: 'tags', tags: ['row'], at: w.hub.log().position, reason: 'auth' } });
  assert.deepEqual([w.cache.peek('k'), w.cache.peek('l').value], [undefined, 'other']);
  w.network.socket.push({ reset: { scope: 'all', at: w.hub.log().position, reason: 'auth' } });
  assert.equal(w.cache.peek('l'), undefined);
});

test('a read that ends with the word that the user may not see the value takes it away', async () => {
  for (const status of [401, 403]) {
    const { kept, persist } = keeping();
    const w = await caching({ persist });
    let allowed = true;
    let reads = 0;
    const fetcher = async () => (reads++, allowed ? labelled('salary', { tags: ['row'] }) : new Response('', { status }));
    await after(w, 100, w.cache.get('k', fetcher));
    const seen = shown(w, 'k');
    allowed = false;
    w.hub.mutate(['row']);
    await w.clock.advance(100);
    assert.deepEqual([w.cache.peek('k'), seen.at(-1), kept.size], [undefined, 'undefined stale', 0]);
    await w.clock.advance(60_000);
    assert.ok(reads <= 5, `${reads} reads`);
    allowed = true;
    await w.clock.advance(60_000);
    assert.equal(seen.at(-1), 'salary fresh');
    w.client.close();
  }
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const failing = async () => { throw Object.assign(new Error('gone'), { response: { status: 403 } }); };
  await after(w, 100, w.cache.get('k', failing, { force: true }));
  assert.equal(w.cache.peek('k'), undefined);
  await after(w, 100, w.cache.get('l', w.origin.fetcher('row')));
  await after(w, 100, w.cache.get('l', async () => { throw new Error('500'); }, { force: true }));
  assert.equal(w.cache.peek('l').value, 0, 'any other failure takes nothing away');
});

test('what fails to be kept is reported once in a row, and breaks nothing', async () => {
  for (const fail of [() => { throw new Error('full'); }, async () => { throw new Error('full'); }]) {
    let isFull = true;
    const w = await caching({ persist: { load: () => [], save: () => (isFull ? fail() : undefined) } });
    for (const key of ['x', 'y']) assert.equal((await after(w, 100, w.cache.get(key, w.origin.fetcher(key)))).state, 'fresh');
    w.network.socket.push({ reset: { scope: 'all', at: w.hub.log().position, reason: 'auth' } });
    assert.deepEqual(['x', 'y'].map((key) => w.cache.peek(key)), [undefined, undefined]);
    await w.clock.advance(10);
    const [error, ...more] = w.of('error');
    assert.deepEqual([error instanceof TidingsError, error.code, error.cause.message, more], [true, 'persist_failed', 'full', []]);
    isFull = false;
    await after(w, 100, w.cache.get('x', w.origin.fetcher('x')));
    isFull = true;
    await after(w, 100, w.cache.get('y', w.origin.fetcher('y')));
    assert.equal(w.of('error').length, 2);
  }
});

test('what fails to be loaded, or takes too long, is reported and waited for no longer', async () => {
  const good = ['good', { value: 1, tags: ['row'], basis: { epoch: '1-log', offset: 0 } }];
  const loads = {
    throws: () => { throw new Error('blocked'); },
    rejects: async () => { throw new Error('blocked'); },
    spoiled: () => [['bad', { value: 1, tags: ['not a tag'] }], ['none', null], good],
    hangs: () => new Promise(() => {}),
  };
  for (const [name, load] of Object.entries(loads)) {
    const w = await caching({ persist: { load, save: () => {} } });
    assert.deepEqual(await after(w, 1_200, w.cache.get('k', w.origin.fetcher('row'))), { value: 0, state: 'fresh' }, name);
    assert.equal(w.cache.peek('good')?.state, name === 'spoiled' ? 'fresh' : undefined);
    const errors = w.of('error').map(({ code }) => code);
    assert.deepEqual(new Set(errors), new Set(name === 'hangs' ? [] : ['persist_failed']), name);
  }
});

test('what is loaded late does not replace what was read meanwhile', async () => {
  let w;
  const entry = { value: 'old', tags: ['row'], basis: { epoch: '1-log', offset: 0 } };
  const load = () => new Promise((resolve) => w.clock.setTimeout(() => resolve([['k', entry], ['l', entry]]), 1_030));
  w = await caching({}, {});
  const cache = w.client.cache({ ns: 'shop', persist: { load, save: () => {} } });
  const got = ['k', 'l'].map((key) => cache.get(key, w.origin.fetcher('row')));
  await w.clock.advance(1_020);
  assert.deepEqual(await after(w, 1_000, Promise.all(got)), [0, 0].map((value) => ({ value, state: 'fresh' })));
  assert.equal(commands(w, 'watch').some(({ watch }) => watch.ns === 'shop'), true);
});
