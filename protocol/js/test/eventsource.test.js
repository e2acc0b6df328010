/**
 * EventSource as others have written it, outside of browsers: cut again and again under publishes, it misses nothing.
 *
 * `TIDINGS_CUTS=50 node --test test/eventsource.test.js` cuts more often.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import EventSource2 from 'eventsource2';
import { EventSource as EventSource3 } from 'eventsource3';
import { EventSource as EventSource4 } from 'eventsource4';
import { EventSource as EventSource5 } from 'eventsource5';
import { SETTINGS, cutting, trimming } from './support/readers.js';
import { startServer } from './support/server.js';

/** Python with httpx-sse, which tests/run installs. */
const PYTHON = process.env.TIDINGS_PYTHON ?? fileURLToPath(new URL('../../../target/python/bin/python', import.meta.url));

const TYPES = ['message', 'hello', 'gap', 'continued', 'disconnect'];

let server;

before(async () => {
  server = await startServer(SETTINGS);
});

after(() => server?.stop());

const npm = (EventSource) => (url, see) => {
  const source = new EventSource(url);
  for (const type of TYPES) source.addEventListener(type, ({ data }) => see({ type, data }));
  source.onerror = () => {};
  return () => source.close();
};

function httpx(url, see) {
  const reader = spawn(PYTHON, [fileURLToPath(new URL('support/reader.py', import.meta.url)), url], { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface(reader.stdout).on('line', (line) => see(JSON.parse(line)));
  const ended = new Promise((resolve) => reader.on('exit', resolve));
  return () => (reader.kill(), ended);
}

const READERS = {
  'eventsource 2': npm(EventSource2),
  'eventsource 3': npm(EventSource3),
  'eventsource 4': npm(EventSource4),
  'eventsource 5': npm(EventSource5),
  'httpx-sse': httpx,
};

test('readers of npm and PyPI', { concurrency: true }, async (t) => {
  const tests = Object.entries(READERS).flatMap(([name, open]) => {
    const skip = open === httpx && !existsSync(PYTHON) && `no ${PYTHON}: tests/run installs it`;
    return [
      t.test(`${name} misses nothing, wherever its stream is cut`, { skip }, async (t) => {
        t.diagnostic(`${name}: ${JSON.stringify(await cutting(server, name.replace(' ', '-'), open))}`);
      }),
      t.test(`${name} is told of a gap where history was trimmed`, { skip }, () => trimming(server, name.replace(' ', '-'), open)),
    ];
  });
  await Promise.all(tests);
  assert.equal(tests.length, 10);
});
