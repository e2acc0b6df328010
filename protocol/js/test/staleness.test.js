/**
 * Whole histories from a seed: reads that take their time, writes, own writes, cuts, half-open lines, sleeps, failovers of the
 * log, restarts with what was kept. Whatever happens, no value is called fresh that lacks a write acknowledged more than a
 * lease ago; and when all is quiet everything that is shown is fresh and right.
 *
 * `TIDINGS_SEEDS=10000 node --test test/staleness.test.js` runs more of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Origin } from './support/origin.js';
import { randomFrom, world } from './support/world.js';

const SEEDS = Number(process.env.TIDINGS_SEEDS ?? 60);
const STEPS = 100;
const LEASE_MS = 15_000;
const ROWS = ['a', 'b', 'list:1', 'list:2'];

/** How often each thing happened, over all seeds: what never happens tests nothing. */
const happened = new Map();
const count = (name) => happened.set(name, (happened.get(name) ?? 0) + 1);

class History {
  /** row → [time of acknowledgement] of each write. */
  #writes = new Map(ROWS.map((row) => [row, []]));
  /** row → the newest value that this client wrote, and knows of. */
  #own = new Map();

  constructor(w, origin) {
    Object.assign(this, { w, origin });
  }

  write(row, { own }) {
    const position = this.origin.write(row);
    this.#writes.get(row).push(this.w.clock.now());
    if (own) this.#own.set(row, this.origin.value(row));
    return position;
  }

  /** A value of the row is shown. */
  check(row, { value, state }, where) {
    count(`${state} ${where}`);
    if (state !== 'fresh') return;
    const missing = this.#writes.get(row)[value];
    const age = this.w.clock.now() - missing;
    assert.ok(missing === undefined || age < LEASE_MS, `${where}: ${row} ${value} is called fresh ${age} ms after the next write`);
    assert.ok(value >= (this.#own.get(row) ?? 0), `${where}: ${row} ${value} is called fresh after the own write of ${this.#own.get(row)}`);
  }
}

async function simulate(seed) {
  const random = randomFrom(seed);
  const upTo = (n) => Math.floor(random() * n);
  const pick = (list) => list[upTo(list.length)];
  const w = world({ random, latency: () => upTo(60) });
  const kept = new Map();
  const persist = { load: () => kept, save: (key, entry) => (entry ? kept.set(key, entry) : kept.delete(key)) };
  const open = () => w.client.cache({ persist, swr: random() < 0.5, degradedTtl: 5_000 });
  const origin = new Origin(w);
  const history = new History(w, origin);
  let cache = open();
  const lies = [];

  /** Values with a basis of their own come from a replica, which is behind. */
  const label = (row) => (value) => (random() < 0.5 ? { value, tags: [row] } : { value, tags: [row], basis: w.hub.log().position });
  const get = (row) => {
    Object.assign(origin, { before: upTo(120), after: upTo(120) });
    const asking = cache;
    const asked = cache.get(row, origin.fetcher(row, label(row)), random() < 0.2 ? { force: true } : {});
    // One that was closed is not told of what its successor does.
    asked.then((view) => asking === cache && history.check(row, view, 'get')).catch((error) => error.code === 'not_read' || lies.push(error));
  };
  const look = (row) => {
    get(row);
    return cache.subscribe(row, (view) => view.value !== undefined && history.check(row, view, 'listener'));
  };
  const faults = {
    cut: () => w.network.socket.cut(),
    stall: () => w.network.socket.stall(),
    unreachable: () => ((w.network.reachable = false), w.network.socket.cut()),
    reachable: () => (w.network.reachable = true),
    silent: () => w.network.socket.session && (w.network.socket.session.silent = true),
    sleep: () => (w.clock.sleep(upTo(60_000)), random() < 0.5 && w.window.dispatchEvent(new Event('visibilitychange'))),
    renamed: () => w.hub.forkLog(0),
    failover: () => w.hub.log().position.offset > 3 && w.hub.forkLog(1 + upTo(3)),
    forget: () => cache.forget(pick(ROWS)),
    escalate: () => w.hub.sessions.forEach((session) => (session.escalates = true)),
    restart: () => (w.restart(), (cache = open()), ROWS.forEach(look)),
  };
  const ends = ROWS.map(look);
  await w.clock.advance(200);
  for (let step = 0; step < STEPS; step++) {
    for (const row of ROWS) {
      const view = cache.peek(row);
      if (view) history.check(row, view, 'peek');
    }
    if (random() < 0.5) get(pick(ROWS));
    if (random() < 0.4) {
      const [row, own] = [pick(ROWS), random() < 0.3];
      const position = history.write(row, { own });
      if (own) cache.mutated({ tags: [row], position });
    }
    if (random() < 0.1) {
      const name = pick(Object.keys(faults));
      count(name);
      faults[name]();
    }
    if (random() < 0.05) ends.splice(upTo(ends.length), 1).forEach((end) => end());
    await w.clock.advance(upTo(random() < 0.1 ? 10_000 : 300));
  }
  w.network.reachable = true;
  w.hub.sessions.forEach((session) => (session.silent = false));
  for (const row of ROWS) look(row);
  await w.clock.advance(150_000);
  for (const row of ROWS) assert.deepEqual(cache.peek(row), { value: origin.value(row), state: 'fresh' }, `${row} at the end`);
  const errors = w.of('error').filter(({ code }) => code !== 'connection_failed');
  assert.deepEqual([...lies, ...errors], []);
  w.client.close();
  await w.clock.advance(1_000);
  assert.equal(w.clock.pending, 0, 'a closed client leaves no timer');
}

test(`${SEEDS} seeds: nothing is called fresh that lacks a write of more than a lease ago`, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    await simulate(seed).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    });
  }
  const wheres = ['get', 'peek', 'listener'].flatMap((where) => [`fresh ${where}`, `stale ${where}`]);
  const faults = ['cut', 'stall', 'unreachable', 'silent', 'sleep', 'renamed', 'failover', 'forget', 'escalate', 'restart'];
  for (const name of [...wheres, ...faults]) assert.ok(happened.get(name) >= 20, `${name} happened ${happened.get(name) ?? 0} times`);
});
