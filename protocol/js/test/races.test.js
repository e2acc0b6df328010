/** Reads that meet mutations, `set`s and each other: which of them is shown, how it is labelled, and when it is read again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labelled } from '../reading.js';
import { after, caching, shown } from './support/caching.js';

test('a read that waits for its verdict does not replace what was set meanwhile', async () => {
  const w = await caching({}, { latency: () => 40 });
  await w.clock.advance(1_000);
  const got = w.cache.get('k', w.origin.fetcher('row'));
  await w.clock.advance(60);
  const basis = w.hub.log().position;
  const position = w.origin.write('row');
  // Not told by `mutated`: nothing but the number of the read says that it began before.
  assert.equal(w.cache.set('k', 1, { tags: ['row'], basis, except: position }), true);
  assert.deepEqual(await after(w, 1_000, got), { value: 1, state: 'fresh' });
  await w.clock.advance(600_000);
  assert.deepEqual(w.cache.peek('k'), { value: 1, state: 'fresh' });
  assert.equal(w.origin.reads, 1);
});

test('what was set without a basis is shown as stale, and read again by a read that began after it', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const seen = shown(w, 'k');
  w.origin.write('row', { tell: false });
  assert.equal(w.cache.set('k', 'of the answer', { tags: ['row'] }), false);
  assert.deepEqual(seen, ['0 fresh', 'of the answer stale']);
  await w.clock.advance(1_000);
  assert.deepEqual(seen, ['0 fresh', 'of the answer stale', '1 fresh']);
  const got = w.cache.get('k', w.origin.fetcher('row'), { force: true });
  await w.clock.advance(15);
  w.origin.write('row', { tell: false });
  w.cache.set('k', 'once more', { tags: ['row'] });
  assert.deepEqual(await after(w, 100, got), { value: 2, state: 'fresh' });
});

test('what the answer to an own mutation shows is fresh by the basis of before its transaction, and not by its position', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  const own = w.origin.change('row', 50);
  const other = w.origin.change('row', 10);
  await w.clock.advance(100);
  const { value, ...answer } = await own;
  assert.ok((await other).position.offset < answer.position.offset, 'the other one committed later and published earlier');
  const source = w.cache.mutated({ tags: ['row'], ...answer });
  assert.deepEqual(source, { basis: answer.basis, except: answer.position });
  w.cache.set('k', value, { tags: ['row'], ...source });
  for (let n = 0; n < 10; n++) {
    assert.deepEqual(w.cache.peek('k'), { value: 1, state: 'stale' });
    await w.clock.advance(5);
  }
  assert.deepEqual(await after(w, 100, w.cache.get('k', w.origin.fetcher('row'))), { value: 2, state: 'fresh' });
  const alone = w.origin.change('row', 0);
  await w.clock.advance(10);
  const { value: last, ...said } = await alone;
  assert.equal(w.cache.set('k', last, { tags: ['row'], ...w.cache.mutated({ tags: ['row'], ...said }) }), true);
  await w.clock.advance(100);
  assert.deepEqual(w.cache.peek('k'), { value: 3, state: 'fresh' });
});

test('the answer of a mutation says in its headers what it touched, where, and since when its body holds', async () => {
  const w = await caching();
  for (const row of ['a', 'b']) await after(w, 100, w.cache.get(row, w.origin.fetcher(row)));
  const position = w.origin.write('a');
  const [basis, mutation] = [`${position.epoch}.0`, `${position.epoch}.1`];
  const headers = { 'cache-group-invalidation': '"a"', 'tidings-basis': basis, 'tidings-mutation': mutation };
  const source = w.cache.mutated(new Response('', { headers }));
  assert.deepEqual(source, { basis: { ...position, offset: 0 }, except: position });
  assert.deepEqual([w.cache.peek('a').state, w.cache.peek('b').state], ['stale', 'fresh']);
  assert.deepEqual(w.of('error'), []);
  assert.deepEqual(w.cache.mutated(new Response('')), { basis: undefined, except: undefined });
  assert.deepEqual(w.of('error').map(({ code }) => code), ['no_tags']);
});

test('a read by force joins none that began before it', async () => {
  const w = await caching();
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  for (let round = 1; round <= 6; round++) {
    const first = w.cache.get('k', w.origin.fetcher('row'), { force: true });
    await w.clock.advance(15);
    w.origin.write('row', { tell: false });
    const forced = w.cache.get('k', w.origin.fetcher('row'), { force: true });
    assert.deepEqual(await after(w, 100, forced), { value: round, state: 'fresh' });
    assert.equal((await first).value, round);
  }
});

test('reads by force that come faster than the value is read are all answered', async () => {
  const w = await caching();
  const answers = [];
  for (let n = 0; n < 40; n++) {
    w.origin.write('row', { tell: false });
    const [now, forced] = [w.origin.value('row'), w.cache.get('k', w.origin.fetcher('row'), { force: true })];
    forced.then(({ value }) => answers.push(value >= now));
    await w.clock.advance(5);
  }
  await w.clock.advance(100);
  assert.deepEqual([answers.length, answers.every(Boolean)], [40, true]);
  assert.ok(w.origin.reads <= 15, `${w.origin.reads} reads`);
});

test('a tag that is written faster than it is read: the newest reading is shown, as stale, and nothing fails', async () => {
  const [write, read] = [200, 250];
  for (const obeys of [true, false]) {
    const w = await caching();
    let [begun, out, most] = [0, 0, 0];
    const fetcher = ({ signal }) => {
      const value = { n: w.origin.value('row'), at: w.clock.now() };
      begun++;
      most = Math.max(most, ++out);
      return new Promise((resolve, reject) => {
        const end = (then) => () => (out--, then());
        const timer = w.clock.setTimeout(end(() => resolve(labelled(value, { tags: ['row'] }))), read);
        if (obeys) signal.addEventListener('abort', () => (w.clock.clearTimeout(timer), end(() => reject(signal.reason))()));
      });
    };
    const views = [];
    w.cache.subscribe('k', (view) => views.push(view));
    await after(w, 1_000, w.cache.get('k', fetcher));
    assert.equal(w.cache.peek('k').state, 'fresh');
    for (let n = 0; n < 150; n++) {
      w.origin.write('row');
      await w.clock.advance(write);
      const { value, state } = w.cache.peek('k');
      if (n < 5) continue;
      assert.equal(state, 'stale');
      assert.ok(w.clock.now() - value.at <= 2 * read + 1_000, `what is shown was read ${w.clock.now() - value.at} ms ago`);
    }
    assert.ok(views.every(({ error }) => !error), 'nobody was shown an error');
    assert.equal(most, 1, 'reads of one key at once');
    assert.ok(begun <= 35, `${begun} reads in 30 s`);
    await w.clock.advance(2_000);
    assert.deepEqual([w.cache.peek('k').value.n, w.cache.peek('k').state], [150, 'fresh']);
    w.client.close();
  }
});

test('an origin that is behind is asked at growing distances', async () => {
  const w = await caching();
  w.hub.mutate(['row']);
  await w.clock.advance(6_000);
  shown(w, 'k');
  const behind = w.origin.fetcher('row', (value) => labelled(value, { tags: ['row'], basis: { ...w.hub.log().position, offset: 0 } }));
  await after(w, 60_000, w.cache.get('k', behind));
  assert.ok(w.origin.reads <= 36, `${w.origin.reads} reads in a minute`);
});

test('a mutation without a position begins only those reads again that it may concern', async () => {
  const w = await caching();
  const [report, draft] = ['report', 'draft'].map((row) => w.cache.get(row, w.origin.fetcher(row)));
  for (let n = 0; n < 4; n++) {
    await w.clock.advance(4);
    w.cache.mutated({ tags: ['draft'] });
  }
  assert.deepEqual(await after(w, 200, report), { value: 0, state: 'fresh' });
  assert.deepEqual(await after(w, 200, draft), { value: 0, state: 'fresh' });
  assert.equal(w.origin.reads, 3, 'the draft is read twice');
});

test('a value of which nobody said what it depends on is stale, and that is reported once', async () => {
  const w = await caching();
  const untagged = w.origin.fetcher('row', (value) => value);
  assert.deepEqual(await after(w, 100, w.cache.get('k', untagged)), { value: 0, state: 'stale' });
  w.origin.write('row');
  assert.deepEqual(await after(w, 100, w.cache.get('k', untagged)), { value: 1, state: 'stale' });
  assert.deepEqual(w.of('error').map(({ code, key }) => [code, key]), [['no_tags', 'k']]);
  const seen = shown(w, 'k');
  await w.clock.advance(600_000);
  assert.deepEqual([seen, w.origin.reads], [['1 stale'], 2]);
  await after(w, 100, w.cache.get('k', untagged, { ttl: 60_000 }));
  assert.deepEqual([w.origin.reads, await after(w, 100, w.cache.get('k', untagged))], [3, { value: 1, state: 'stale' }]);
  await w.clock.advance(600_000);
  assert.ok(w.origin.reads >= 12 && w.origin.reads <= 14, `${w.origin.reads} reads: one for each time to live`);
});

test('no tags on purpose are a value that never changes', async () => {
  const w = await caching();
  const constant = w.origin.fetcher('row', (value) => labelled(value, { tags: [] }));
  assert.deepEqual(await after(w, 100, w.cache.get('k', constant)), { value: 0, state: 'fresh' });
  assert.deepEqual(await after(w, 100, w.cache.get('p', w.origin.fetcher('row', (value) => value), { tags: [] })), { value: 0, state: 'fresh' });
  const emptied = async () => new Response('1', { headers: { 'content-type': 'application/json', 'cache-groups': '' } });
  assert.equal((await after(w, 100, w.cache.get('r', emptied))).state, 'stale');
  assert.deepEqual(w.of('error').map(({ code, key }) => [code, key]), [['no_tags', 'r']]);
});

test('an object of a program is a value, whatever its fields are called', async () => {
  const w = await caching();
  const row = { value: 'dark', tags: ['user interface'] };
  assert.deepEqual((await after(w, 100, w.cache.get('k', async () => row, { tags: ['setting'] }))), { value: row, state: 'fresh' });
});

test('a fetcher that hangs fails after its time, and the next one is asked', async () => {
  const w = await caching();
  const hanging = () => new Promise(() => {});
  const error = await after(w, 30_100, w.cache.get('k', hanging, { tags: ['row'] }));
  assert.deepEqual([error.code, error.retryable], ['read_timed_out', true]);
  assert.equal((await after(w, 1_100, w.cache.get('l', hanging, { timeout: 1_000 }))).code, 'read_timed_out');
  assert.deepEqual(await after(w, 100, w.cache.get('k', w.origin.fetcher('row'))), { value: 0, state: 'fresh' });
  const [forgotten, closed] = ['m', 'n'].map((key) => w.cache.get(key, hanging));
  await w.clock.advance(10);
  w.cache.forget('m');
  assert.equal((await after(w, 0, forgotten)).code, 'not_read');
  w.client.close();
  assert.equal((await after(w, 0, closed)).code, 'not_read');
  assert.equal(w.clock.pending, 0);
});
