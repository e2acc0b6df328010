/**
 * The live page, the client and a native EventSource in a real browser, against the real server.
 *
 * Publishing is done by curl, as the page tells people to.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { VECTORS, assertVectors, publishVectors } from './support/events.js';
import { startBrowser, startServer } from './support/server.js';

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

const run = promisify(execFile);

/** A channel of this run alone: a server that runs already may remember others. */
const channelFor = (name) => `${name}:${Date.now().toString(36)}`;

async function publish(channel, data) {
  const url = `${server.url}v1/publish/${encodeURIComponent(channel)}`;
  const { stdout } = await run('curl', ['-sS', '--fail-with-body', '--max-time', '5', '-d', JSON.stringify(data), url]);
  return JSON.parse(stdout);
}

/** The live page on `channel`, once it is live; whatever it complains about fails the test. */
async function openPage(t, channel) {
  const page = await browser.newPage();
  page.setDefaultTimeout(10_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  t.after(async () => {
    await page.close();
    assert.deepEqual(complaints, []);
  });
  await page.goto(`${server.url}#${encodeURIComponent(channel)}`);
  await live(page);
  // Live does not wait for the answer to the first subscribe; a message that comes back does.
  await page.fill('#publish-channel', channel);
  await page.fill('#publish-data', '"first"');
  await page.click('#publish-submit');
  await shown(page, 1);
  return page;
}

const live = (page) => page.waitForSelector('#state[data-state=live]');

const shown = (page, count) =>
  page.waitForFunction((n) => document.querySelectorAll('#messages li[data-kind=message]').length >= n, count);

/** What the page shows, oldest first. */
async function linesOf(page) {
  const lines = await page.$$eval('#messages li', (items) =>
    items.map((item) => ({ ...item.dataset, text: item.lastElementChild.textContent })),
  );
  return lines.reverse();
}

test('a publish by curl appears on the page', async (t) => {
  const channel = channelFor('tickets');
  const page = await openPage(t, channel);
  const { position, ack } = await publish(channel, { id: 42 });
  await shown(page, 2);
  const line = (await linesOf(page)).at(-1);
  assert.equal(ack, 'stored');
  assert.deepEqual(line, { kind: 'message', channel, text: '{"id":42}', epoch: position.epoch, offset: String(position.offset) });
});

test('a page whose connection was cut resumes without a gap, in order, nothing twice', async (t) => {
  const channel = channelFor('room');
  const page = await openPage(t, channel);
  await publish(channel, 'before');
  await shown(page, 2);
  await page.click('#cut');
  await page.waitForSelector('#state[data-state=offline]');
  for (const n of [1, 2, 3]) await publish(channel, `missed ${n}`);
  assert.equal((await linesOf(page)).length, 2, 'nothing comes through a cut line');
  await page.click('#cut');
  await live(page);
  await publish(channel, 'after');
  await shown(page, 6);
  const lines = await linesOf(page);
  assert.deepEqual(lines.map(({ text }) => text), ['first', 'before', 'missed 1', 'missed 2', 'missed 3', 'after']);
  const offsets = lines.map(({ offset }) => Number(offset));
  assert.deepEqual(offsets, offsets.map((_, i) => offsets[0] + i));
  assert.deepEqual([await page.textContent('#count-gaps'), await page.textContent('#count-reconnects')], ['0', '1']);
});

test('channels are subscribed and removed by hand, and the address remembers them', async (t) => {
  const channel = channelFor('tickets');
  const other = channelFor('room:7,x');
  const page = await openPage(t, channel);
  await page.fill('#subscribe-channel', other);
  await page.press('#subscribe-channel', 'Enter');
  assert.equal(new URL(page.url()).hash, `#${[channel, other].map(encodeURIComponent).join('&')}`);
  await page.fill('#publish-channel', other);
  await page.press('#publish-data', 'Control+Enter');
  await shown(page, 2);
  await page.click(`#channels li[data-channel="${channel}"] button`);
  await publish(channel, 'unseen');
  await publish(other, 'seen');
  await shown(page, 3);
  assert.deepEqual((await linesOf(page)).map((line) => line.channel), [channel, other, other]);
  assert.match(await page.textContent('#curl'), new RegExp(`^curl -d '"first"' ${server.url}v1/publish/room%3A7%2Cx`));
});

test('a stream in the page yields messages and ends on abort', async (t) => {
  const channel = channelFor('chat');
  const page = await openPage(t, channel);
  const items = page.evaluate(async (name) => {
    const { tidings } = await import('/tidings.js');
    const client = tidings(location.origin);
    const abort = new AbortController();
    const seen = [];
    for await (const { data } of client.stream(name, { signal: abort.signal })) {
      seen.push(data);
      if (data === 'last') abort.abort();
    }
    client.close();
    return seen;
  }, channel);
  // What is published before the stream has subscribed does not reach it.
  let ended = false;
  items.finally(() => (ended = true)).catch(() => {});
  for (let n = 0; !ended && n < 50; n++) await publish(channel, 'last');
  assert.deepEqual(await items, ['last']);
});

test('a native EventSource gets publications with their positions', async (t) => {
  const channel = channelFor('dashboard');
  const page = await openPage(t, channel);
  await page.evaluate((name) => {
    const source = new EventSource(`/sse?channel=${encodeURIComponent(name)}`);
    source.addEventListener('hello', () => (window.opened = true));
    source.onmessage = ({ data }) => (window.received = JSON.parse(data));
  }, channel);
  await page.waitForFunction(() => window.opened);
  const { position } = await publish(channel, { id: 7 });
  const event = await (await page.waitForFunction(() => window.received)).jsonValue();
  assert.deepEqual([event.channel, event.epoch, event.offset, event.data], [channel, position.epoch, position.offset, { id: 7 }]);
});

test('a native EventSource gives exactly what was published, and nothing that it looks like', async (t) => {
  const channel = channelFor('vectors');
  const page = await openPage(t, channelFor('beside'));
  await page.evaluate((name) => {
    window.streams = ['', '&raw=1'].map((query) => {
      const stream = { messages: [], others: [] };
      const source = new EventSource(`/sse?channel=${encodeURIComponent(name)}${query}`);
      source.onmessage = ({ data, lastEventId }) => stream.messages.push({ data, id: lastEventId });
      source.onerror = () => stream.others.push('error');
      for (const event of ['hello', 'gap', 'forged', 'retry', 'id', 'data']) source.addEventListener(event, () => stream.others.push(event));
      return stream;
    });
  }, channel);
  await page.waitForFunction(() => window.streams.every(({ others }) => others.includes('hello')));
  await publishVectors(server.url, channel);
  await page.waitForFunction((count) => window.streams.every(({ messages }) => messages.length >= count), VECTORS.length);
  const streams = await page.evaluate(() => window.streams);
  for (const [index, { messages, others }] of streams.entries()) {
    assert.deepEqual(others, ['hello']);
    assertVectors(messages, { raw: index === 1 });
  }
});
