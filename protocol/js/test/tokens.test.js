/** Tokens for single channels: given with each subscribe, and again when they have expired. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jwt } from './support/token.js';
import { world } from './support/world.js';

const commands = ({ network }, name) => network.sockets.flatMap(({ received }) => received).filter((command) => name in command);

const numbered = (jti) => jwt({ jti });

/** Gives tokens that are numbered from 1 on, each of which the server takes. */
function dispenser(w) {
  let count = 0;
  return async () => {
    const token = numbered(++count);
    w.hub.passes.add(token);
    return token;
  };
}

test('a token goes with every subscribe of its channel, and with no other', async () => {
  const w = world();
  const seen = w.listen('guarded:1', { token: dispenser(w) });
  w.listen('tickets');
  await w.clock.advance(10);
  w.publish('guarded:1', 1);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1]);
  w.client.reconnect();
  await w.clock.advance(10);
  w.publish('guarded:1', 2);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 2]);
  const sent = commands(w, 'subscribe').map(({ subscribe: { channel, token } }) => [channel, token]);
  assert.deepEqual(sent.filter(([channel]) => channel === 'guarded:1'), [['guarded:1', numbered(1)], ['guarded:1', numbered(2)]]);
  assert.ok(sent.filter(([channel]) => channel === 'tickets').every(([, token]) => token === undefined));
});

test('a subscription whose token expired goes on with another one, and lacks nothing', async () => {
  const w = world();
  const gaps = [];
  const seen = w.listen('guarded:1', { token: dispenser(w), onGap: (gap) => gaps.push(gap) });
  await w.clock.advance(10);
  w.publish('guarded:1', 1);
  await w.clock.advance(10);
  w.hub.expirePasses();
  w.publish('guarded:1', 2);
  await w.clock.advance(10);
  w.publish('guarded:1', 3);
  await w.clock.advance(10);
  assert.deepEqual([seen, gaps], [[1, 2, 3], []]);
});

test('a token that was given as text cannot be renewed, and its channel ends', async () => {
  const w = world();
  w.hub.passes.add('once');
  const errors = [];
  w.client.addEventListener('error', ({ detail }) => errors.push([detail.code, detail.channel]));
  const seen = w.listen('guarded:1', { token: 'once' });
  await w.clock.advance(10);
  w.publish('guarded:1', 1);
  await w.clock.advance(10);
  w.hub.expirePasses();
  await w.clock.advance(10);
  assert.deepEqual([seen, errors], [[1], [['token_expired', 'guarded:1']]]);
  w.listen('guarded:2', { token: 'once' });
  await w.clock.advance(100_000);
  assert.deepEqual(errors.at(-1), ['token_expired', 'guarded:2']);
  assert.equal(commands(w, 'subscribe').filter(({ subscribe }) => subscribe.channel === 'guarded:2').length, 1);
});

test('a function that fails is asked again, and one that answers too late is not heard', async () => {
  const w = world();
  const errors = [];
  w.client.addEventListener('error', ({ detail }) => errors.push(detail.code));
  let calls = 0;
  const seen = w.listen('guarded:1', {
    token: async () => {
      if (++calls === 1) throw new Error('the backend is away');
      w.hub.passes.add(numbered(1));
      return numbered(1);
    },
  });
  const off = w.client.subscribe('guarded:2', () => assert.fail('it was left'), { token: dispenser(w) });
  off();
  await w.clock.advance(60_000);
  w.publish('guarded:1', 1);
  await w.clock.advance(10);
  assert.deepEqual([seen, errors, calls], [[1], ['token_failed'], 2]);
  assert.ok(commands(w, 'subscribe').every(({ subscribe }) => subscribe.channel !== 'guarded:2'));
});
