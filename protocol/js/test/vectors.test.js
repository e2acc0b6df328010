/** The shared vectors: the same cases run in every implementation. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Continuity } from '../continuity.js';
import { positionFrom } from '../position.js';

const vectors = async (name) => JSON.parse(await readFile(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8'));

const cases = await vectors('continuity');
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
