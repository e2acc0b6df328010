/** The shared vectors: the same cases run in every implementation. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Continuity } from '../continuity.js';
import { LeaseClock } from '../lease.js';
import { Ledger } from '../ledger.js';
import { positionFrom } from '../position.js';

const vectors = async (name) => JSON.parse(await readFile(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8'));

const cases = await vectors('continuity');
const books = await vectors('ledger');
const frames = await vectors('frames');

for (const { name, since, steps } of cases) {
  test(`continuity: ${name}`, () => {
    const machine = new Continuity('tickets', positionFrom(since));
    for (const [i, step] of steps.entries()) {
      const effects = step.in.event ? machine[step.in.event]() : machine.handle(step.in);
      assert.deepEqual(effects.map(withoutWords), step.out, `effects of step ${i}: ${JSON.stringify(step.in)}`);
      if ('position' in step) assert.deepEqual(machine.position, step.position, `position after step ${i}`);
    }
  });
}

test('continuity has a case for every event, frame and effect', () => {
  const keys = (select) => new Set(cases.flatMap(({ steps }) => steps.flatMap(select)));
  const inputs = keys((step) => step.in.event ?? Object.keys(step.in)[0]);
  const effects = keys((step) => step.out.map((effect) => Object.keys(effect)[0]));
  const answers = ['batch', 'subscribed', 'history', 'gap', 'continued', 'unsubscribed', 'error'];
  assert.deepEqual([...inputs].sort(), ['connected', 'disconnected', 'retry', ...answers].sort());
  assert.deepEqual([...effects].sort(), ['closed', 'deliver', 'gap', 'retry', 'send']);
  assert.ok(cases.length >= 25, `${cases.length} cases`);
});

for (const { name, steps } of books) {
  test(`ledger: ${name}`, () => {
    const client = { ledger: new Ledger(), clock: new LeaseClock() };
    for (const [i, step] of steps.entries()) {
      const said = happen(client, step.in);
      assert.deepEqual(said, step.is, `step ${i}: ${JSON.stringify(step.in)}`);
      const effects = client.ledger.effects();
      assert.deepEqual(inAnyOrder(effects), inAnyOrder(step.out ?? []), `effects of step ${i}: ${JSON.stringify(step.in)}`);
    }
  });
}

/** Does one thing to the books; gives what is answered, where something is. */
function happen({ ledger, clock }, step) {
  if (step.connected) return ledger.connected(step.connected.lease_ms);
  if (step.disconnected) return ledger.disconnected();
  if (step.ping) return ledger.pinged(step.ping.c);
  if (step.begin !== undefined) return ledger.begin(step.begin);
  if (step.store) return ledger.stored(step.store.key, step.store.tags, step.store);
  if (step.check) return ledger.check(step.check, step.now);
  if (step.asked) return ledger.isAsked(step.asked);
  if (step.mutated) return ledger.mutated(step.mutated.position, step.mutated.tags);
  if (step.forget) return ledger.forget(step.forget);
  if (step.clock) return clock.read(step.clock.monotonic, step.clock.wall);
  return ledger.handle(step);
}

const inAnyOrder = (effects) => effects.map((effect) => JSON.stringify(effect)).sort();

test('ledger has a case for everything that happens and everything that is done', () => {
  const keys = (select) => new Set(books.flatMap(({ steps }) => steps.flatMap(select)));
  const nameOf = (object) => Object.keys(object).find((key) => key !== 'id' && key !== 'now');
  const frames = ['watched', 'invalidated', 'at', 'reset', 'continued', 'error'];
  const calls = ['connected', 'disconnected', 'ping', 'begin', 'store', 'check', 'asked', 'mutated', 'forget', 'clock'];
  assert.deepEqual([...keys((step) => nameOf(step.in))].sort(), [...frames, ...calls].sort());
  assert.deepEqual([...keys((step) => (step.out ?? []).map(nameOf))].sort(), ['forget', 'proven', 'stale', 'unwatch', 'watch']);
  assert.ok(books.length >= 40, `${books.length} cases`);
});

test('frames are named once, and each says what is expected of its reader', () => {
  const names = frames.map(({ direction, name }) => `${direction}: ${name}`);
  assert.equal(new Set(names).size, names.length);
  for (const vector of frames) {
    if (vector.valid) {
      assert.equal(Object.keys(vector.frame).filter((key) => key !== 'id').length, 1, vector.name);
    } else {
      assert.equal(vector.direction, 'client', vector.name);
      assert.ok(vector.error && (vector.text ?? vector.repeat) !== undefined, vector.name);
    }
  }
});

test('every command that the client can send is in frames', () => {
  const examples = frames.filter(({ valid, direction }) => valid && direction === 'client');
  const commands = new Set(examples.flatMap(({ frame }) => Object.keys(frame)));
  for (const command of ['connect', 'subscribe', 'unsubscribe', 'publish', 'history', 'ping']) {
    assert.ok(commands.has(command), command);
  }
});

/** Effects as the vectors have them: messages for people are free. */
function withoutWords(effect) {
  return effect.closed ? { closed: { code: effect.closed.code } } : effect;
}
