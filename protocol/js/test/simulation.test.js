/**
 * Whole histories from a seed: publications, cuts, stalls, lost and repeated batches, paged recovery, trimmed history and
 * failovers. Whatever happens, a listener sees every publication once and in order, or a gap where it does not.
 *
 * `TIDINGS_SEEDS=100000 node --test test/simulation.test.js` runs more of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom, world } from './support/world.js';

const SEEDS = Number(process.env.TIDINGS_SEEDS ?? 300);
const CHANNELS = ['tickets', 'room:7', 'volatile'];
const STEPS = 120;

/** How often each fault happened, over all seeds: a fault that never happens tests nothing. */
const happened = new Map();

/** Faults that no client can hide: publications are gone for good. */
const LOSSES = ['burst', 'failover'];

/** Runs one seed; throws where the listener was deceived. With `lossless` every gap is a lie, too. */
async function simulate(seed, { lossless }) {
  const random = randomFrom(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const latency = () => Math.floor(random() * 80);
  const hub = { historySize: lossless ? 10_000 : 40, page: 1 + Math.floor(random() * 8) };
  const w = world({ random, latency, hub });
  const channels = lossless ? CHANNELS.slice(0, 2) : CHANNELS;
  const ledgers = new Map(channels.map((name) => [name, new Ledger(w, name)]));
  const faults = {
    cut: () => w.network.socket.cut(),
    stall: () => w.network.socket.stall(),
    unreachable: () => ((w.network.reachable = false), w.network.socket.cut()),
    reachable: () => (w.network.reachable = true),
    skip: () => ledgers.get(pick(channels)).publish(1 + Math.floor(random() * 3), () => false),
    repeat: () => w.network.socket.session && ledgers.get(pick(channels)).repeat(w.network.socket),
    burst: () => ledgers.get(pick(channels)).publish(50),
    continued: () => ledgers.get(pick(channels.slice(0, 2))).failover(0),
    failover: () => ledgers.get(pick(channels.slice(0, 2))).failover(2),
    online: () => w.window.dispatchEvent(new Event('online')),
  };
  for (const loss of lossless ? LOSSES : []) delete faults[loss];
  await w.clock.advance(500);
  for (let step = 0; step < STEPS; step++) {
    ledgers.get(pick(channels)).publish(1 + Math.floor(random() * 4));
    if (random() < 0.2) {
      const name = pick(Object.keys(faults));
      happened.set(name, (happened.get(name) ?? 0) + 1);
      faults[name]();
    }
    await w.clock.advance(Math.floor(random() * 400));
  }
  w.network.reachable = true;
  await w.clock.advance(120_000);
  for (const ledger of ledgers.values()) ledger.publish(1);
  await w.clock.advance(120_000);
  for (const ledger of ledgers.values()) ledger.check();
  if (lossless) assert.deepEqual(w.of('gap'), [], 'nothing was lost, and yet a gap was told');
  w.client.close();
  await w.clock.advance(1000);
  assert.equal(w.clock.pending, 0, 'a closed client leaves no timer');
}

/** What was published on a channel, and what its listener saw. */
class Ledger {
  /** Every publication, by number; `dead` where a failover lost it. */
  #published = [];
  #seen = [];

  constructor(w, name) {
    Object.assign(this, { w, name });
    w.client.subscribe(name, (message) => this.#seen.push(message), { onGap: (gap) => this.#seen.push({ gap }) });
  }

  publish(count, reaches) {
    const numbers = Array.from({ length: count }, (_, i) => this.#published.length + i);
    // Without history a batch that is skipped leaves no trace: nobody can promise anything about it.
    const dead = this.name === 'volatile' && reaches !== undefined;
    for (const number of numbers) this.#published.push({ number, dead });
    this.w.hub.publish(this.name, numbers.map((data) => ({ data })), reaches);
  }

  /** The newest batch comes once more; without positions nobody could tell. */
  repeat(socket) {
    const channel = this.w.hub.channel(this.name);
    if (!channel.volatile && channel.log.length) socket.session.send({ batch: channel.batch(channel.log.slice(-3)) });
  }

  failover(lost) {
    const channel = this.w.hub.channel(this.name);
    if (channel.log.length < lost) return;
    for (const { data } of lost ? channel.log.slice(-lost) : []) this.#published[data].dead = true;
    this.w.hub.failover(this.name, lost);
  }

  check() {
    let last = -1;
    let gap = true; // Before the first message nothing was promised.
    let position = {};
    for (const item of this.#seen) {
      if (item.gap) {
        gap = true;
        continue;
      }
      assert.ok(item.data > last, `${this.name}: ${item.data} after ${last}: twice, or out of order`);
      const hidden = this.#published.slice(last + 1, item.data).filter(({ dead }) => !dead);
      assert.ok(gap || hidden.length === 0, `${this.name}: ${hidden.length} lost silently between ${last} and ${item.data}`);
      const stepped = item.epoch === undefined || item.epoch !== position.epoch || item.offset > position.offset;
      assert.ok(stepped, `${this.name}: offset ${item.offset} after ${position.offset} in ${item.epoch}`);
      [last, gap, position] = [item.data, false, item];
    }
    assert.equal(last, this.#published.length - 1, `${this.name}: the last publication arrived`);
  }
}

async function simulateAll(options) {
  for (let seed = 1; seed <= SEEDS; seed++) {
    await simulate(seed, options).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    });
  }
}

test(`${SEEDS} seeds: nothing is lost silently, nothing comes twice`, async () => {
  await simulateAll({ lossless: false });
  for (const fault of ['cut', 'stall', 'unreachable', 'skip', 'repeat', 'continued', 'online', ...LOSSES]) {
    assert.ok(happened.get(fault) >= 20, `${fault} happened ${happened.get(fault) ?? 0} times`);
  }
});

test(`${SEEDS} seeds where history holds everything: there is no gap at all`, async () => {
  await simulateAll({ lossless: true });
});
