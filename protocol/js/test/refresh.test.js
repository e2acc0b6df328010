/** The token of a connection: asked for, replaced in time, and what a bad one does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { longBackoff } from '../backoff.js';
import { refreshDelay, tokenFrom } from '../token.js';
import { jwt } from './support/token.js';
import { world } from './support/world.js';

const codes = (w) => w.of('error').map(({ code }) => code);
const sent = (w, name) => w.network.sockets.flatMap(({ received }) => received).filter((command) => name in command);

/** A world whose token function signs for `seconds` by the world's own clock, `ahead` of which is the client's. */
function issuing(seconds) {
  const issued = [];
  const issue = () => {
    const now = w.clock.now() / 1000;
    issued.push(jwt({ exp: now + seconds, iat: now, jti: issued.length }));
    return issued.at(-1);
  };
  // The first one is asked for while the world is made.
  const w = world({ token: () => Promise.resolve().then(() => w.answer()) });
  return Object.assign(w, { issued, answer: issue });
}

test('a token is replaced after 80 to 90 % of its life, whatever the clock of the machine says', () => {
  const [exp, iat] = [1_000_300, 1_000_000];
  const at = (claims, now, random = 0) => refreshDelay(jwt(claims), now * 1000, () => random);
  assert.deepEqual([at({ exp, iat }, iat), at({ exp, iat }, iat, 1)].map(Math.round), [240_000, 270_000]);
  assert.equal(at({ exp, iat }, iat - 7200), 240_000, 'a clock that is behind');
  assert.equal(at({ exp, iat }, iat + 7200), 240_000, 'a clock by which it is over');
  assert.equal(at({ exp, iat }, iat + 200), 80_000, 'one that was held for a while');
  assert.equal(at({ exp }, iat), 240_000);
  assert.equal(at({ exp, iat }, exp - 0.1), 1000, 'not again and again');
  for (const nothing of [at({ exp }, exp + 1), at({}, 0), at({ exp: 'soon' }, 0)]) assert.equal(nothing, null);
  assert.equal(refreshDelay('td_backend', 0, () => 0), null);
});

test('only what looks like a token is taken for one', async () => {
  for (const token of [jwt(), ` ${jwt()}\n`, 'td_backend-1']) assert.equal(await tokenFrom(() => token), token.trim());
  assert.equal(await tokenFrom(async () => null), null);
  assert.equal(await tokenFrom('any text'), 'any text', 'what is given as text is the program\'s own affair');
  assert.equal(await tokenFrom(undefined), null);
  const secret = 'hunter2 hunter2';
  for (const bad of ['', '<html>502 Bad Gateway</html>', 'Unauthorized', 'a.b', 'a.b.', secret, undefined, 7, {}]) {
    const failed = await tokenFrom(() => bad).catch((error) => error);
    assert.deepEqual([failed.code, failed.retryable], ['token_failed', true], String(bad));
    assert.ok(!failed.message.includes(secret), 'what was no token may be a secret');
  }
});

test('a connection outlives its tokens without a cut, a gap or an error', async () => {
  const w = issuing(60);
  const seen = w.listen('volatile:1');
  await w.clock.advance(10);
  await w.clock.advance(3_600_000);
  w.publish('volatile:1', 1);
  await w.clock.advance(10);
  assert.deepEqual([w.network.sockets.length, codes(w), seen], [1, [], [1]]);
  const refreshed = sent(w, 'refresh').map(({ refresh }) => refresh.token);
  // Half of the jitter: each lives for 51 s.
  assert.deepEqual([refreshed.length, refreshed], [70, w.issued.slice(1)]);
});

test('a token that cannot be had is asked for again, and the connection goes on meanwhile', async () => {
  let away = false;
  const w = issuing(100);
  const { answer } = w;
  w.answer = () => (away ? '<html>502</html>' : answer());
  await w.clock.advance(10);
  away = true;
  await w.clock.advance(90_000);
  assert.equal(w.client.state, 'live');
  assert.ok(codes(w).length >= 3 && codes(w).every((code) => code === 'token_failed'), codes(w).join());
  away = false;
  await w.clock.advance(9_000);
  assert.deepEqual([sent(w, 'refresh').length, w.network.sockets.length], [1, 1]);
});

test('an answer that is no token at the first connection is no end', async () => {
  const answers = ['<html>502 Bad Gateway</html>', '', undefined, jwt()];
  const w = world({ token: async () => answers.shift() });
  await w.clock.advance(10_000);
  assert.deepEqual([w.client.state, codes(w)], ['live', ['token_failed', 'token_failed', 'token_failed']]);
  assert.deepEqual(sent(w, 'connect').length, 1);
});

test('a program without a token connects without one', async () => {
  const w = world({ token: async () => null });
  await w.clock.advance(10);
  assert.deepEqual([w.client.state, sent(w, 'connect')], ['live', []]);
});

test('a token that expired unseen is no error where there are others', async () => {
  const w = issuing(60);
  await w.clock.advance(10);
  w.network.socket.push({ error: { code: 'token_expired', message: 'it has expired', retryable: true } });
  w.network.socket.cut(4401, 'token_expired');
  await w.clock.advance(1_000);
  assert.deepEqual([w.client.state, codes(w), w.issued.length], ['live', [], 2]);
});

test('a token that is refused is asked for anew, after longer and longer pauses', async () => {
  assert.deepEqual([0, 1, 9].map((n) => longBackoff(n, () => 0)), [15_000, 30_000, 300_000]);
  const w = issuing(600);
  w.hub.refuses = (token) => w.issued.indexOf(token) < 3;
  await w.clock.advance(10_000);
  assert.deepEqual([w.network.sockets.length, codes(w)], [1, ['unauthorized']]);
  await w.clock.advance(200_000);
  assert.deepEqual([w.client.state, w.issued.length], ['live', 4]);
});

test('a refresh that is refused is an error, and another token is asked for later', async () => {
  const w = issuing(100);
  w.hub.refuses = (token) => w.issued.indexOf(token) === 1;
  await w.clock.advance(10);
  await w.clock.advance(85_100);
  assert.deepEqual([w.client.state, codes(w), w.issued.length], ['live', ['unauthorized'], 2]);
  await w.clock.advance(30_000);
  assert.deepEqual([w.network.sockets.length, sent(w, 'refresh').length], [1, 2]);
});

test('after the end of a connection the program begins anew with another token', async () => {
  const tokens = [jwt({ jti: 1 }), jwt({ jti: 2 })];
  const w = world({ token: () => tokens.shift() });
  await w.clock.advance(10);
  w.network.socket.cut(4503, 'disconnected: by an operator');
  await w.clock.advance(600_000);
  assert.deepEqual([w.client.state, w.network.sockets.length], ['offline', 1]);
  w.client.reconnect();
  await w.clock.advance(10);
  assert.deepEqual([w.client.state, sent(w, 'connect').at(-1).connect.token], ['live', jwt({ jti: 2 })]);
});

test('a client that is closed leaves no timer, with a token that will expire', async () => {
  const w = issuing(60);
  await w.clock.advance(10);
  w.client.close();
  assert.equal(w.clock.pending, 0);
});
