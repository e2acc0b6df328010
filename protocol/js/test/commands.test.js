/** What a cache sends: few commands, few pings, and reads that are spread. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labelled } from '../reading.js';
import { after, caching, commands, shown } from './support/caching.js';
import { Origin } from './support/origin.js';
import { world } from './support/world.js';

const keys = (count) => Array.from({ length: count }, (_, i) => `row:${i}`);
const tagsOf = (watch) => watch.groups.flatMap(({ tags }) => tags);

test('what is read within a moment is asked about together, and in commands that a server takes', async () => {
  const w = await caching();
  const many = keys(2_500);
  const before = commands(w, 'watch').length;
  const got = Promise.all(many.map((key) => w.cache.get(key, async () => labelled(1, { tags: [key] }))));
  const views = await after(w, 200, got);
  assert.ok(views.every(({ state }) => state === 'fresh'));
  const watches = commands(w, 'watch').slice(before).map(({ watch }) => tagsOf(watch));
  assert.equal(watches.flat().length, 2_500);
  assert.ok(watches.length <= 5 && watches.every(({ length }) => length <= 1_000), `${watches.map(({ length }) => length)} tags`);
});

test('tags of what is dropped within a moment are taken back together; who has them again by then is not asked twice', async () => {
  const w = await caching();
  const many = keys(1_200);
  for (const key of [...many, 'kept']) w.cache.set(key, 1, { tags: [key], basis: w.hub.log().position });
  await w.clock.advance(100);
  w.cache.forget('x');
  for (const key of [...many, 'kept']) w.cache.forget(key);
  w.cache.set('kept', 1, { tags: ['kept'], basis: w.hub.log().position });
  await w.clock.advance(100);
  const taken = commands(w, 'unwatch').flatMap(({ unwatch }) => unwatch.tags);
  assert.equal(taken.length, 1_200);
  assert.ok(commands(w, 'unwatch').length <= 3);
  assert.equal(w.cache.peek('kept').state, 'fresh');
});

test('ten thousand values that are loaded late are asked about in few commands, without a long pause, and saved back by nobody', async () => {
  const saved = [];
  let w;
  const kept = keys(10_000).map((key) => [key, { value: 1, tags: [key], basis: { epoch: '1-log', offset: 0 } }]);
  const load = () => new Promise((resolve) => w.clock.setTimeout(() => resolve(kept), 300));
  w = world();
  const cache = w.client.cache({ persist: { load, save: (...entry) => saved.push(entry) } });
  let pauses = 0;
  const { setTimeout } = w.clock;
  w.clock.setTimeout = (then, ms) => ((pauses += ms === 0), setTimeout(then, ms));
  await w.clock.advance(1_500);
  assert.ok(pauses >= 40, `${pauses} pauses`);
  assert.equal(kept.filter(([key]) => cache.peek(key)?.state === 'fresh').length, 10_000);
  assert.ok(commands(w, 'watch').length <= 20, `${commands(w, 'watch').length} commands`);
  assert.deepEqual(saved, []);
});

test('one mutation is looked at by those alone whom it touches', async () => {
  const w = await caching();
  const many = keys(2_000);
  for (const key of many) w.cache.set(key, 1, { tags: [key], basis: w.hub.log().position });
  let [calls, reads] = [0, 0];
  for (const key of many) w.cache.subscribe(key, () => calls++, { refetch: false });
  await w.clock.advance(100);
  [calls, reads] = [0, 0];
  const { monotonic } = w.clock;
  w.clock.monotonic = () => (reads++, monotonic());
  w.hub.mutate(['row:7']);
  await w.clock.advance(10);
  assert.equal(calls, 1);
  assert.ok(reads < 50, `the clock was read ${reads} times`);
});

test('without a lease one ping is out, however often is asked', async () => {
  const w = await caching();
  const many = keys(500);
  for (const key of many) w.cache.set(key, 1, { tags: [key], basis: w.hub.log().position });
  await w.clock.advance(100);
  w.network.socket.session.silent = true;
  await w.clock.advance(20_000);
  const before = commands(w, 'ping').length;
  let late = 0;
  for (let n = 0; n < 1_500; n++) {
    const [key, at] = [many[n % 500], w.clock.now()];
    w.cache.get(key, async () => labelled(1, { tags: [key] })).then(() => (late += w.clock.now() - at > 50));
    await w.clock.advance(4);
  }
  assert.ok(commands(w, 'ping').length - before <= 3, `${commands(w, 'ping').length - before} pings in 6 s`);
  assert.ok(late <= 251, `${late} waited: those who came before the first had waited in vain`);
});

test('a lease comes under any load, though the way is long', async () => {
  const w = await caching({}, { latency: () => 60 });
  let fresh = 0;
  for (let n = 0; n < 1_000; n++) {
    const key = `row:${n % 400}`;
    w.cache.get(key, async () => labelled(1, { tags: [key] })).then(({ state }) => (fresh += state === 'fresh'));
    await w.clock.advance(4);
  }
  assert.ok(fresh >= 850, `${fresh} of 1,000 were fresh`);
  assert.ok(commands(w, 'ping').length <= 4, `${commands(w, 'ping').length} pings`);
});

test('a value is fresh after the third way to the server and back, by one read, though the first ping is forgotten', async () => {
  for (const [forgets, swr] of [[false, false], [true, false], [false, true]]) {
    const w = world({ latency: () => 40 });
    const { attach } = w.hub;
    w.hub.attach = (send) => {
      const session = attach.call(w.hub, send);
      const ping = session.ping.bind(session);
      let pings = 0;
      session.ping = (body) => (forgets && !pings++ ? [{ pong: body }] : ping(body));
      return session;
    };
    const [cache, origin] = [w.client.cache({ swr }), new Origin(w)];
    const seen = [];
    cache.subscribe('k', ({ state }) => seen.push([state, w.clock.now()]));
    const got = cache.get('k', origin.fetcher('row'));
    await w.clock.advance(3_000);
    assert.deepEqual([(await got).state, origin.reads], ['fresh', 1]);
    // One for the socket (TCP and the handshake in truth), one for a lease, one for the verdict.
    assert.ok(seen[0][1] <= 80 * 3 + 20 + 100, `fresh after ${seen[0][1]} ms`);
    seen.splice(0);
    w.client.reconnect();
    await w.clock.advance(3_000);
    const [[, stale], [state, fresh]] = seen;
    assert.ok(state === 'fresh' && fresh - stale <= 2 * 80 + 100, `stale for ${fresh - stale} ms`);
    assert.equal(origin.reads, 1);
  }
});

test('reads after a restart of the server are spread as it says, and reads without one over half of their distance', async () => {
  let random = 0;
  const w = await caching({}, { random: () => (random = (random + 0.618) % 1) });
  const many = keys(100);
  const at = [];
  for (const key of many) shown(w, key);
  for (const key of many) w.cache.get(key, async () => (at.push(w.clock.now()), labelled(1, { tags: [key] })));
  await w.clock.advance(1_000);
  const spread = (list) => Math.max(...list) - Math.min(...list);
  const { watch } = w.network.socket.session;
  w.network.socket.stall();
  w.network.reachable = false;
  w.network.socket.cut();
  await w.clock.advance(16_000);
  at.splice(0);
  await w.clock.advance(60_000);
  assert.ok(at.length >= 100 && spread(at.slice(0, 100)) > 15_000, `${at.length} reads within ${spread(at.slice(0, 100))} ms`);
  const { attach } = w.hub;
  w.hub.attach = (send) => {
    const next = attach.call(w.hub, send);
    next.watch = (body) => {
      const answer = watch.call(next, body);
      return { watched: { ...answer.watched, stale: tagsOf(body), spread_ms: 4_000 } };
    };
    return next;
  };
  w.network.reachable = true;
  at.splice(0);
  w.client.reconnect();
  await w.clock.advance(10_000);
  assert.ok(at.length >= 100 && spread(at) > 2_000 && spread(at) < 6_000, `${at.length} reads within ${spread(at)} ms`);
});

test('a ttl of a month is no timer that fires at once', async () => {
  const w = await caching({ ttl: 30 * 24 * 3_600_000 });
  const waits = [];
  const { setTimeout } = w.clock;
  w.clock.setTimeout = (then, ms) => (waits.push(ms), setTimeout(then, ms));
  shown(w, 'k');
  await after(w, 100, w.cache.get('k', w.origin.fetcher('row')));
  assert.ok(waits.every((ms) => ms < 2 ** 31), `${Math.max(...waits)} ms`);
  assert.ok(waits.length < 20);
});
