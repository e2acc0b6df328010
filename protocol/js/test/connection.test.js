/** How the client connects, notices that it is alone, waits, and comes back, or does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff } from '../backoff.js';
import { tidings } from '../tidings.js';
import { settle } from './support/clock.js';
import { jwt } from './support/token.js';
import { world } from './support/world.js';

const codes = (w) => w.of('error').map(({ code }) => code);

test('the backoff is full jitter between nothing and a bound that doubles up to 20 s', () => {
  const most = (n) => backoff(n, () => 1);
  assert.deepEqual([0, 1, 2, 6, 7, 60, 5000].map(most), [300, 600, 1200, 19_200, 20_000, 20_000, 20_000]);
  assert.equal(backoff(3, () => 0), 0);
  assert.equal(backoff(1, () => 0.25), 150);
});

test('any form of the address leads to the WebSocket endpoint', async () => {
  const urls = [];
  const WebSocket = class {
    constructor(url, protocols) {
      urls.push(url);
      assert.deepEqual(protocols, ['tidings.v1.json']);
    }
    close() {}
  };
  const rows = [
    ['http://a.test', 'ws://a.test/ws'],
    ['https://a.test/', 'wss://a.test/ws'],
    ['ws://a.test/rt', 'ws://a.test/rt/ws'],
    ['wss://a.test/rt/ws', 'wss://a.test/rt/ws'],
    [new URL('http://a.test:8080/#x'), 'ws://a.test:8080/ws'],
  ];
  const clients = rows.map(([url]) => tidings(url, { WebSocket }));
  await settle();
  for (const client of clients) client.close();
  assert.deepEqual(urls, rows.map(([, url]) => url));
});

test('a lost connection is opened again after the backoff, which grows while it fails', async () => {
  const w = world();
  w.network.reachable = false;
  await w.clock.advance(20_000);
  // Half of 300, 600, 1200 …, each after 1 ms of trying.
  const attempts = 1 + [150, 300, 600, 1200, 2400, 4800, 9600].length;
  assert.equal(w.network.sockets.length, attempts);
  w.network.reachable = true;
  await w.clock.advance(20_000);
  assert.equal(w.client.state, 'live');
});

test('the backoff begins anew after a connection that lived, not after one that died at once', async () => {
  const w = world();
  const reopensWithin = async (ms) => {
    const before = w.network.sockets.length;
    w.network.socket.cut();
    await w.clock.advance(ms);
    return w.network.sockets.length > before;
  };
  await w.clock.advance(10);
  assert.equal(await reopensWithin(150), true);
  await w.clock.advance(10);
  assert.equal(await reopensWithin(150), false);
  await w.clock.advance(10_000);
  assert.equal(await reopensWithin(150), true);
});

test('the server decides when a client comes back, or that it does not', async () => {
  const w = world();
  await w.clock.advance(10);
  w.network.socket.push({ disconnect: { code: 1012, reason: 'draining', reconnect: true, after_ms: 7000 } });
  await w.clock.advance(6999);
  assert.equal(w.network.sockets.length, 1);
  await w.clock.advance(10);
  assert.equal(w.client.state, 'live');
  w.network.socket.push({ disconnect: { code: 4503, reason: 'unauthorized: key revoked', reconnect: false } });
  await w.clock.advance(600_000);
  assert.equal(w.network.sockets.length, 2);
  assert.deepEqual([w.client.state, codes(w)], ['offline', ['unauthorized']]);
});

test('close codes from 4500 are final, those below are not', async () => {
  for (const [code, sockets] of [[1001, 2], [1012, 2], [4408, 2], [4499, 2], [4500, 1], [4999, 1]]) {
    const w = world();
    await w.clock.advance(10);
    w.network.socket.cut(code, 'some_reason: in words');
    await w.clock.advance(1000);
    assert.equal(w.network.sockets.length, sockets, `after ${code}`);
    assert.deepEqual(codes(w), sockets === 1 ? ['some_reason'] : []);
    w.client.reconnect();
    await w.clock.advance(10);
    assert.equal(w.client.state, 'live', `the program decides otherwise after ${code}`);
    w.client.close();
    w.client.reconnect();
    await w.clock.advance(10);
    assert.equal(w.client.state, 'offline', 'a client that was closed stays so');
  }
});

test('the token goes first, and a new one is fetched when it has expired', async () => {
  let fetched = 0;
  const numbered = (jti) => jwt({ jti });
  const w = world({ token: async () => numbered(++fetched) });
  w.listen('tickets');
  await w.clock.advance(10);
  w.network.socket.cut(1006);
  await w.clock.advance(1000);
  w.network.socket.cut(4401, 'token_expired');
  await w.clock.advance(1000);
  const sent = w.network.sockets.map(({ received }) => received[0]);
  assert.deepEqual(sent, [1, 1, 2].map((count) => ({ id: 0, connect: { token: numbered(count) } })));
  assert.deepEqual(codes(w), []);
});

test('a token given as text is used, and final once it has expired', async () => {
  const w = world({ token: 'text' });
  await w.clock.advance(10);
  assert.deepEqual(w.network.socket.received[0], { id: 0, connect: { token: 'text' } });
  w.network.socket.cut(4401, 'token_expired');
  await w.clock.advance(60_000);
  assert.deepEqual([w.network.sockets.length, codes(w)], [1, ['token_expired']]);
});

test('a server that needs no token is no error', async () => {
  const w = world({ token: 'text' });
  await w.clock.advance(10);
  w.network.socket.push({ id: 0, error: { code: 'bad_request', message: 'use `refresh`', retryable: false } });
  assert.deepEqual([w.client.state, codes(w)], ['live', []]);
});

test('a token function that fails is asked again later', async () => {
  const answers = [() => Promise.reject(new Error('no session')), () => jwt()];
  const w = world({ token: () => answers.shift()() });
  await w.clock.advance(1000);
  assert.deepEqual([w.client.state, codes(w)], ['live', ['token_failed']]);
});

test('a token that comes late opens no second socket', async () => {
  const waiting = [];
  const w = world({ token: () => new Promise((resolve) => waiting.push(resolve)) });
  w.client.reconnect();
  for (const resolve of waiting) resolve(jwt());
  await w.clock.advance(10);
  assert.deepEqual([w.network.sockets.length, w.client.state], [1, 'live']);
});

test('a program that reconnects as soon as it is offline has one connection', async () => {
  for (const channels of [[], ['tickets']]) {
    const w = world();
    channels.forEach((channel) => w.listen(channel));
    await w.clock.advance(10);
    w.client.addEventListener('state', ({ detail }) => detail === 'offline' && w.client.reconnect());
    w.network.socket.cut();
    await w.clock.advance(1000);
    assert.equal(w.network.sockets.length, 2);
    const states = w.of('state').filter((state) => state !== 'catching-up');
    assert.deepEqual(states, ['live', 'offline', 'connecting', 'live']);
  }
});

test('silence is broken by a probe, and a probe without an answer ends the connection', async () => {
  const w = world();
  const seen = w.listen('tickets');
  await w.clock.advance(10);
  const pings = () => w.network.sockets.flatMap(({ received }) => received).filter(({ ping }) => ping).length;
  await w.clock.advance(24_000);
  assert.equal(pings(), 0);
  await w.clock.advance(2000);
  assert.equal(pings(), 1);
  await w.clock.advance(60_000);
  assert.equal(w.network.sockets.length, 1, 'answered probes keep the connection');
  w.publish('tickets', 1);
  await w.clock.advance(10);
  w.network.socket.stall();
  w.publish('tickets', 2);
  await w.clock.advance(24_000);
  assert.equal(w.network.sockets.length, 1);
  await w.clock.advance(12_000);
  assert.deepEqual([w.network.sockets.length, seen], [2, [1, 2]]);
});

test('a socket that opens and says nothing is given up', async () => {
  const w = world({ latency: () => 60_000 });
  await w.clock.advance(9999);
  assert.equal(w.network.sockets.length, 1);
  await w.clock.advance(151);
  assert.equal(w.network.sockets.length, 2);
});

test('text that is not JSON ends the connection, and the client resumes', async () => {
  const w = world();
  const seen = w.listen('tickets');
  await w.clock.advance(10);
  w.network.socket.push('{"batch":');
  w.publish('tickets', 1);
  await w.clock.advance(1000);
  assert.deepEqual([seen, codes(w)], [[1], ['bad_frame']]);
});

test('a WebSocket that cannot be made is reported and tried again', async () => {
  let broken = true;
  const w = world();
  const Real = w.network.WebSocket;
  w.client.close();
  class Fragile extends Real {
    constructor(...args) {
      if (broken) throw new Error('not allowed here');
      super(...args);
    }
  }
  const errors = [];
  const client = tidings('http://hub.test', { WebSocket: Fragile, timers: w.clock, random: () => 0.5 });
  client.addEventListener('error', ({ detail }) => errors.push(detail.code));
  await w.clock.advance(100);
  broken = false;
  await w.clock.advance(1000);
  assert.deepEqual([client.state, errors], ['live', ['connection_failed']]);
});

test('no connection at all is said once, and again after the next one was lost', async () => {
  const w = world();
  w.network.reachable = false;
  await w.clock.advance(60_000);
  assert.ok(w.network.sockets.length > 5);
  assert.deepEqual(w.of('error').map(({ code, retryable }) => [code, retryable]), [['connection_failed', true]]);
  assert.match(w.of('error')[0].message, /ws:\/\/hub\.test\/ws.*origin.*1006/);
  w.network.reachable = true;
  await w.clock.advance(20_000);
  w.network.socket.cut();
  await w.clock.advance(1000);
  assert.deepEqual([w.client.state, codes(w)], ['live', ['connection_failed']], 'a cut is no failure');
  w.network.reachable = false;
  w.network.socket.cut();
  await w.clock.advance(60_000);
  assert.deepEqual(codes(w), ['connection_failed', 'connection_failed']);
});

test('a close that blames what was sent is an error, and the client comes back', async () => {
  const rows = { 1002: 'protocol_error', 1003: 'unsupported_data', 1007: 'invalid_utf8', 1008: 'policy', 1009: 'too_large' };
  for (const [code, slug] of Object.entries(rows)) {
    const w = world();
    await w.clock.advance(10);
    w.network.socket.cut(Number(code), '');
    await w.clock.advance(1000);
    assert.deepEqual([w.client.state, codes(w)], ['live', [slug]], code);
  }
  for (const code of [1000, 1001, 1006, 1011]) {
    const w = world();
    await w.clock.advance(10);
    w.network.socket.cut(code, '');
    await w.clock.advance(1000);
    assert.deepEqual([w.client.state, codes(w)], ['live', []], `${code}`);
  }
});

test('what is larger than the server takes fails alone', async () => {
  const w = world();
  await w.clock.advance(10);
  const publish = (length) => w.client.publish('tickets', 'ü'.repeat(length)).catch(({ code }) => code);
  const [large, small] = [publish(503_000), publish(498_000)];
  await w.clock.advance(10);
  assert.deepEqual([await large, (await small).ack], ['too_large', 'stored']);
  assert.equal(w.network.sockets.length, 1);
});
