/** What a client does when its page or machine was away, and comes back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { world } from './support/world.js';

test('a page that is online again, or back from the cache, does not wait', async () => {
  const w = world();
  w.network.reachable = false;
  await w.clock.advance(60_000);
  w.network.reachable = true;
  w.window.dispatchEvent(new Event('online'));
  await w.clock.advance(5);
  assert.equal(w.client.state, 'live');

  const open = w.network.sockets.length;
  w.window.dispatchEvent(new Event('pageshow'));
  await w.clock.advance(5);
  assert.equal(w.network.sockets.length, open, 'a first pageshow changes nothing');
  w.window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
  await w.clock.advance(5);
  assert.deepEqual([w.network.sockets.length, w.client.state], [open + 1, 'live']);

  w.network.socket.stall();
  w.window.dispatchEvent(new Event('online'));
  await w.clock.advance(3_500);
  assert.equal(w.network.sockets.length, open + 2, 'online asks an open connection whether it lives');
});

/** A window whose page can be seen, or not. */
function page() {
  const window = Object.assign(new EventTarget(), { document: { visibilityState: 'visible' } });
  const show = (visibilityState) => {
    window.document.visibilityState = visibilityState;
    window.dispatchEvent(new Event('visibilitychange'));
  };
  return { window, show };
}

test('a page that is shown again learns within 3 s that its line is dead, with channels alone', async () => {
  const { window, show } = page();
  const w = world({ window });
  const seen = w.listen('tickets');
  await w.clock.advance(10);
  show('hidden');
  w.network.socket.stall();
  w.publish('tickets', 'missed');
  await w.clock.advance(500);
  show('visible');
  await w.clock.advance(1_000);
  // Whoever looks twice does not wait longer.
  show('visible');
  await w.clock.advance(2_500);
  assert.deepEqual([seen, w.network.sockets.length], [['missed'], 2]);
});

test('a line that lives stays open, however often the page is shown', async () => {
  const { window, show } = page();
  const w = world({ window });
  await w.clock.advance(10);
  for (let round = 0; round < 10; round++) {
    show('hidden');
    show('visible');
    await w.clock.advance(1_000);
  }
  assert.equal(w.network.sockets.length, 1);
});

test('a hidden page does not try outside of the backoff, and one that is shown tries at once', async () => {
  const { window, show } = page();
  const w = world({ window });
  w.network.reachable = false;
  show('hidden');
  await w.clock.advance(60_000);
  w.network.reachable = true;
  const before = w.network.sockets.length;
  show('hidden');
  window.dispatchEvent(new Event('online'));
  await w.clock.advance(5);
  assert.equal(w.network.sockets.length, before);
  show('visible');
  await w.clock.advance(5);
  assert.deepEqual([w.network.sockets.length, w.client.state], [before + 1, 'live']);
});

test('a page without a network is offline at once, and a client that was told to stay away is not woken', async () => {
  const w = world();
  await w.clock.advance(10);
  w.network.reachable = false;
  w.window.dispatchEvent(new Event('offline'));
  assert.equal(w.client.state, 'offline');
  w.network.reachable = true;
  w.window.dispatchEvent(new Event('online'));
  await w.clock.advance(10);
  assert.equal(w.client.state, 'live');
  w.network.socket.cut(4503, 'disconnected');
  w.window.dispatchEvent(new Event('online'));
  await w.clock.advance(60_000);
  assert.deepEqual([w.client.state, w.network.sockets.length], ['offline', 2]);
});
