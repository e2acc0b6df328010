/**
 * Readers of event streams that others have written, and what each must have seen whatever is cut.
 *
 * A reader is `open(url, see)`: a function that opens the stream at `url`, for as long as it takes, and calls
 * `see({type, data})` for every event. It returns the function that closes it, or a promise of it.
 */
import assert from 'node:assert/strict';
import { startCutter } from './cutter.js';
import { randomFrom } from './world.js';

/** Cuts of each reader's streams; `TIDINGS_CUTS=50` is what a release is tested with. */
const CUTS = Number(process.env.TIDINGS_CUTS ?? 8);

/** 20 publications a second. */
const PUBLISH_MS = 50;

/** The settings of a server for `cutting` and `trimming`: short histories where the name says so, and many comments. */
export const SETTINGS = {
  TIDINGS__NAMESPACE__SHORT__HISTORY_SIZE: '5',
  TIDINGS__SERVER__PING_INTERVAL: '100ms',
  TIDINGS__SERVER__TIMEOUT: '10s',
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, condition) {
  for (let waited = 0; !condition(); waited += 20) {
    assert.ok(waited < 30_000 + CUTS * 3_000, `never: ${what()}`);
    await pause(20);
  }
}

async function publish(server, channel, data) {
  const how = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(data) };
  const answer = await fetch(new URL(`v1/publish/${channel}`, server.url), how);
  assert.equal(answer.status, 200, await answer.text());
}

/** Opens the channel for a reader; a promise of what it sees, once it has been greeted. */
async function follow(open, cutter, channel) {
  const events = [];
  const close = await open(new URL(`sse?channel=${channel}`, cutter.url).href, (event) => events.push(event));
  const messages = () => events.filter(({ type }) => type === 'message').map(({ data }) => JSON.parse(data));
  await until(() => 'a greeting', () => events.some(({ type }) => type === 'hello'));
  const stop = async () => {
    await close();
    cutter.stop();
  };
  const gaps = () => events.filter(({ type }) => type === 'gap').map(({ data }) => JSON.parse(data).reason);
  return { events, messages, gaps, stop };
}

/** Whatever is cut, a reader sees every publication and no gap, and nothing but what came from the server. */
export async function cutting(server, name, open) {
  const channel = `cut:${name}:${Date.now().toString(36)}`;
  const cutter = await startCutter(server.url, CUTS, randomFrom(Buffer.from(name).reduce((sum, byte) => 31 * sum + byte, 0)));
  const reader = await follow(open, cutter, channel);
  let count = 0;
  try {
    while (!cutter.isDone || count < 20) {
      await publish(server, channel, ++count);
      await pause(PUBLISH_MS);
      assert.ok(count < 1000 + CUTS * 60, `only ${JSON.stringify(cutter.counts)} cuts`);
    }
    await publish(server, channel, ++count);
    await until(() => `all of ${count}, only ${reader.messages().length}`, () => reader.messages().some(({ data }) => data === count));
  } finally {
    await reader.stop();
  }
  const seen = reader.messages().map(({ offset, data }) => (assert.equal(offset, data), offset));
  const expected = Array.from({ length: count }, (_, index) => index + 1);
  assert.deepEqual([...new Set(seen)].sort((a, b) => a - b), expected, `${name} sees everything`);
  assert.deepEqual(reader.gaps(), [], `${name} is told of no gap`);
  assert.deepEqual(reader.events.filter(({ data }) => !data), [], `${name} sees no event without data`);
  return { cuts: cutter.counts, published: count, repeated: seen.length - count };
}

/** Where history does not reach back, a reader is told of the gap. */
export async function trimming(server, name, open) {
  const channel = `short:${name}:${Date.now().toString(36)}`;
  const cutter = await startCutter(server.url, 0, Math.random);
  const reader = await follow(open, cutter, channel);
  try {
    await publish(server, channel, 1);
    await until(() => 'the first', () => reader.messages().length === 1);
    cutter.refuse();
    for (let data = 2; data <= 20; data++) await publish(server, channel, data);
    cutter.admit();
    await until(() => 'a gap', () => reader.gaps().length > 0);
    await publish(server, channel, 21);
    await until(() => 'what follows the gap', () => reader.messages().at(-1)?.data === 21);
  } finally {
    await reader.stop();
  }
  assert.deepEqual([reader.gaps(), reader.messages().map(({ data }) => data)], [['trimmed'], [1, 21]]);
}
