/** Who is there, as a program sees it: lists, changes, and what happens where they cross or get lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Presence } from '../presence.js';
import { Clock } from './support/clock.js';
import { world } from './support/world.js';

const member = (session) => ({ user: 'ada', session, since: 5 });
const list = (...sessions) => ({ members: sessions.map(member), count: sessions.length, more: false });
const changes = (joined, left = [], more = {}) => ({
  channel: 'room',
  joined: joined.map(member),
  left: left.map(member),
  ...more,
});

/** Events as '+a' and '-a'. */
function heard(presence) {
  const events = [];
  presence.addEventListener('join', ({ detail }) => events.push(`+${detail.session}`));
  presence.addEventListener('leave', ({ detail }) => events.push(`-${detail.session}`));
  presence.addEventListener('end', ({ detail }) => events.push(`end ${detail?.code}`));
  return events;
}

/** A presence whose lists are answered by hand. */
function manual() {
  const clock = new Clock();
  const asked = [];
  let stops = 0;
  const ask = () => new Promise((resolve, reject) => asked.push({ resolve, reject }));
  const presence = new Presence(ask, { timers: clock, random: () => 0.5 }, () => stops++);
  return { clock, asked, presence, events: heard(presence), stops: () => stops };
}

test('a list and what changes while it is asked for come to the truth', async () => {
  const { clock, asked, presence, events } = manual();
  presence.list();
  presence.handle(changes(['c'], ['b']));
  asked[0].resolve(list('a', 'b'));
  await clock.advance(0);
  assert.deepEqual(presence.members().map(({ session }) => session).sort(), ['a', 'c']);
  assert.deepEqual(events, ['+c', '+a']);
  presence.handle(changes(['a'], ['x']));
  assert.deepEqual(events, ['+c', '+a'], 'what is known is no news');
});

test('only the newest list counts, and the difference to it is told', async () => {
  const { clock, asked, presence, events } = manual();
  presence.list();
  presence.list();
  asked[1].resolve(list('a', 'b'));
  asked[0].resolve(list('old'));
  await clock.advance(0);
  presence.list();
  asked[2].resolve(list('b', 'c'));
  await clock.advance(0);
  assert.deepEqual(events, ['+a', '+b', '-a', '+c']);
});

test('lost changes and failed lists are asked for again, but not what is refused', async () => {
  const { clock, asked, presence } = manual();
  presence.handle(changes([], [], { lost: true }));
  presence.handle(changes([], [], { lost: true }));
  assert.equal(asked.length, 0, 'not all at once');
  await clock.advance(500);
  assert.equal(asked.length, 1);
  asked[0].reject({ retryable: true });
  await clock.advance(500);
  assert.equal(asked.length, 2);
  asked[1].reject({ retryable: false });
  await clock.advance(10_000);
  assert.equal(asked.length, 2);
});

test('a list that is too short counts all', async () => {
  const { clock, asked, presence } = manual();
  presence.list();
  asked[0].resolve({ ...list('a'), count: 5, more: true });
  await clock.advance(0);
  presence.handle(changes(['b']));
  assert.deepEqual([presence.members().length, presence.count], [2, 6]);
});

test('a right that ends is told, once', async () => {
  const { clock, presence, events, stops } = manual();
  presence.handle(changes([], [], { code: 'channel_not_allowed' }));
  presence.end();
  await clock.advance(10_000);
  assert.deepEqual([events, stops(), clock.pending], [['end channel_not_allowed'], 1, 0]);
});

test('whoever is there, comes and goes is seen, across a cut too', async () => {
  const w = world();
  const other = w.hub.attach(() => {});
  other.subscribe({ channel: 'room' });
  const room = w.client.presence('room');
  const events = heard(room);
  await w.clock.advance(10);
  const own = w.client.session.session;
  assert.deepEqual(events.sort(), ['+s-1', `+${own}`]);
  other.unsubscribe({ channel: 'room' });
  await w.clock.advance(10);
  assert.equal(events.at(-1), '-s-1');
  w.network.sockets.at(-1).cut(1006);
  await w.clock.advance(30_000);
  assert.deepEqual(room.members().map(({ session }) => session), [w.client.session.session]);
  assert.notEqual(w.client.session.session, own);
  assert.ok(events.includes(`-${own}`));
  room.close();
  await w.clock.advance(10);
  assert.equal(events.at(-1), 'end undefined');
  assert.deepEqual(w.hub.members('room'), [], 'nobody else needed the subscription');
});

test('a channel that is subscribed already is subscribed again, and misses nothing', async () => {
  const w = world();
  const seen = w.listen('room');
  const volatile = w.listen('volatile');
  await w.clock.advance(10);
  w.publish('room', 1);
  const [room, second] = [w.client.presence('room'), w.client.presence('room')];
  w.client.presence('volatile');
  w.publish('room', 2);
  await w.clock.advance(10);
  w.publish('room', 3);
  w.publish('volatile', 1);
  await w.clock.advance(10);
  assert.deepEqual([seen, volatile], [[1, 2, 3], ['gap:lost', 1]]);
  assert.deepEqual([room.count, second.count], [1, 1]);
  room.close();
  second.close();
  w.publish('room', 4);
  await w.clock.advance(10);
  assert.deepEqual(seen, [1, 2, 3, 4], 'the listener keeps its subscription');
});

test('a channel that is refused ends its presence', async () => {
  const w = world();
  const events = heard(w.client.presence('secret'));
  await w.clock.advance(10);
  assert.deepEqual(events, ['end channel_not_allowed']);
});
