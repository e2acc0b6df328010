/**
 * A whole history of a cache from a seed: reads that take their time, writers whose publications overtake each other, own writes whose answers
 * are shown, reads by force, cuts, half-open lines, sleeps, failovers of the log, restarts with what was kept. Whatever happens, no
 * value is called fresh that lacks a write acknowledged more than a lease ago; and when all is quiet everything that is shown is
 * fresh and right.
 */
import assert from 'node:assert/strict';
import { labelled } from '../../reading.js';
import { Origin } from './origin.js';
import { randomFrom, world } from './world.js';

const STEPS = 100;
const LEASE_MS = 15_000;
const ROWS = ['a', 'b', 'list:1', 'list:2'];
/** A row of which no reading has tags. */
const UNTAGGED = 'untagged';

/** How often each thing happened, over all seeds: what never happens tests nothing. */
export const happened = new Map();
const count = (name) => happened.set(name, (happened.get(name) ?? 0) + 1);

export async function simulate(seed) {
  const simulation = new Simulation(randomFrom(seed));
  await simulation.run();
  await simulation.settle();
}

/** What was written when, and who knows of it. */
class History {
  /** row → [time of acknowledgement] of each write; Infinity where there is none. */
  #writes = new Map([...ROWS, UNTAGGED].map((row) => [row, []]));
  /** row → the newest value that this client wrote, and knows of. */
  #own = new Map();
  /** row → the newest value that this client showed as the answer of its own write. */
  #set = new Map();

  constructor(clock) {
    this.clock = clock;
  }

  acknowledged(row, value) {
    const writes = this.#writes.get(row);
    while (writes.length < value) writes.push(Infinity);
    writes[value - 1] = this.clock.now();
  }

  /** This client was told of its own write. */
  told(row, value) {
    this.#own.set(row, Math.max(value, this.#own.get(row) ?? 0));
  }

  /** This client showed the answer of its own write. */
  set(row, value) {
    this.#set.set(row, value);
  }

  /** What was shown of the row is gone. */
  forget(row) {
    this.#set.delete(row);
  }

  /** A value of the row is shown. */
  check(row, { value, state }, where) {
    count(`${state} ${where}`);
    assert.ok(value >= (this.#set.get(row) ?? 0), `${where}: ${row} goes back to ${value} after its own write of ${this.#set.get(row)} was shown`);
    if (state !== 'fresh') return;
    const age = this.clock.now() - Math.min(Infinity, ...this.#writes.get(row).slice(value));
    assert.ok(!(age >= LEASE_MS), `${where}: ${row} ${value} is called fresh ${age} ms after a later write`);
    assert.ok(value >= (this.#own.get(row) ?? 0), `${where}: ${row} ${value} is called fresh after the own write of ${this.#own.get(row)}`);
  }
}

class Simulation {
  lies = [];
  kept = new Map();
  /** row → how often a program showed the answer of a write. */
  sets = new Map();

  constructor(random) {
    this.random = random;
    const [trip, segment] = [this.upTo(150), this.chance(0.5) ? 1 : 1 + this.upTo(40)];
    this.w = world({ random, latency: () => this.upTo(trip + 1), segment });
    this.origin = new Origin(this.w);
    this.history = new History(this.w.clock);
    this.cache = this.open();
  }

  upTo = (n) => Math.floor(this.random() * n);
  pick = (list) => list[this.upTo(list.length)];
  chance = (share) => this.random() < share;

  open() {
    const persist = { load: () => this.kept, save: (key, entry) => (entry ? this.kept.set(key, entry) : this.kept.delete(key)) };
    return this.w.client.cache({ persist, swr: this.chance(0.5), degradedTtl: 5_000 });
  }

  /** Values with a basis of their own come from a replica, which may be behind. */
  label(row, value) {
    if (row === UNTAGGED) return value;
    return labelled(value, { tags: [row], basis: this.chance(0.5) ? undefined : this.w.hub.log().position });
  }

  /** Something that fails may do so because the value is not wanted any more. */
  async promised(doing) {
    const { cache } = this;
    const isCurrent = () => cache === this.cache;
    try {
      await doing(isCurrent);
    } catch (error) {
      if (error.code !== 'not_read') this.lies.push(error);
    }
  }

  get(row, policy = {}) {
    Object.assign(this.origin, { before: this.upTo(120), after: this.upTo(120) });
    return this.promised(async (isCurrent) => {
      const [before, sets] = [this.origin.value(row), this.sets.get(row)];
      const view = await this.cache.get(row, this.origin.fetcher(row, (value) => this.label(row, value)), policy);
      // A client that was closed is not told of what its successor does.
      if (!isCurrent()) return;
      this.history.check(row, view, 'get');
      const isLate = policy.force && view.state === 'fresh' && sets === this.sets.get(row);
      assert.ok(!isLate || view.value >= before, `${row} was read by force at ${before}, and ${view.value} is called fresh`);
    });
  }

  look(row) {
    this.get(row);
    return this.cache.subscribe(row, (view) => view.value !== undefined && this.history.check(row, view, 'listener'));
  }

  /** A write of somebody else, or of this client, who may show what its answer shows. */
  write(row, isOwn) {
    return this.promised(async (isCurrent) => {
      const { cache } = this;
      const { value, basis, position } = await this.origin.change(row, this.pick([0, 0, this.upTo(40), this.upTo(400)]));
      this.history.acknowledged(row, value);
      if (!isOwn || !isCurrent()) return;
      const isPlaced = this.chance(0.8);
      const source = cache.mutated({ tags: [row], ...(isPlaced && { position, basis }) });
      this.history.told(row, value);
      if (!this.chance(0.7)) return;
      this.sets.set(row, (this.sets.get(row) ?? 0) + 1);
      // Answers of two writes may come in the wrong order.
      this.history.forget(row);
      const isKept = cache.set(row, value, { tags: [row], ...source });
      count(`set ${isKept ? 'kept' : 'stale'}`);
      if (cache.peek(row)?.value === value) this.history.set(row, value);
    });
  }

  /** Somebody changes a row and tells nobody but this program, which reads by force. */
  force(row) {
    count('force');
    if (this.chance(0.5)) this.origin.write(row, { tell: false });
    return this.get(row, { force: true });
  }

  faults() {
    const { w } = this;
    const { network, hub, clock, window } = w;
    return {
      cut: () => network.socket.cut(),
      stall: () => network.socket.stall(),
      unreachable: () => ((network.reachable = false), network.socket.cut()),
      reachable: () => (network.reachable = true),
      silent: () => network.socket.session && (network.socket.session.silent = true),
      sleep: () => (clock.sleep(this.upTo(60_000)), this.chance(0.5) && window.dispatchEvent(new Event('visibilitychange'))),
      renamed: () => hub.forkLog(0),
      failover: () => hub.log().position.offset > 3 && hub.forkLog(1 + this.upTo(3)),
      forget: () => this.forget(this.pick(ROWS)),
      escalate: () => hub.sessions.forEach((session) => (session.escalates = true)),
      restart: () => this.restart(),
    };
  }

  forget(row) {
    this.history.forget(row);
    this.cache.forget(row);
  }

  /** The page is loaded anew, with what was kept. */
  restart() {
    for (const row of [...ROWS, UNTAGGED]) this.history.forget(row);
    this.w.restart();
    this.cache = this.open();
    for (const row of ROWS) this.look(row);
  }

  peekAll() {
    for (const row of [...ROWS, UNTAGGED]) {
      const view = this.cache.peek(row);
      if (view) this.history.check(row, view, 'peek');
    }
  }

  async run() {
    const faults = this.faults();
    const ends = ROWS.map((row) => this.look(row));
    await this.w.clock.advance(200);
    for (let step = 0; step < STEPS; step++) {
      this.peekAll();
      if (this.chance(0.5)) this.get(this.pick([...ROWS, UNTAGGED]));
      if (this.chance(0.1)) this.force(this.pick(ROWS));
      if (this.chance(0.4)) this.write(this.pick([...ROWS, UNTAGGED]), this.chance(0.4));
      if (this.chance(0.1)) {
        const name = this.pick(Object.keys(faults));
        count(name);
        faults[name]();
      }
      if (this.chance(0.05)) ends.splice(this.upTo(ends.length), 1).forEach((end) => end());
      await this.w.clock.advance(this.upTo(this.chance(0.1) ? 10_000 : 300));
      if (this.lies.length) break;
    }
  }

  /** When the faults are over, everything becomes fresh and right. */
  async settle() {
    const { w, cache, origin } = this;
    if (this.lies.length) throw this.lies[0];
    w.network.reachable = true;
    w.hub.sessions.forEach((session) => (session.silent = false));
    await w.clock.advance(500);
    for (const row of ROWS) await Promise.all([origin.change(row, 0), this.look(row), w.clock.advance(1)]);
    await w.clock.advance(150_000);
    for (const row of ROWS) assert.deepEqual(cache.peek(row), { value: origin.value(row), state: 'fresh' }, `${row} at the end`);
    const errors = w.of('error').filter(({ code }) => code !== 'no_tags' && code !== 'connection_failed');
    for (const error of [...this.lies, ...errors]) throw error;
    w.client.close();
    await w.clock.advance(1_000);
    assert.equal(w.clock.pending, 0, 'a closed client leaves no timer');
  }
}
