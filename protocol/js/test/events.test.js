/** Event streams of the real server, read by a parser that is not this project's. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createParser } from 'eventsource-parser';
import { VECTORS, assertVectors, publishVectors } from './support/events.js';
import { startServer } from './support/server.js';

let server;

before(async () => {
  server = await startServer();
});

after(() => server?.stop());

/** Publishes the vectors and reads until the last of them is there. */
async function read(channel, query) {
  const abort = new AbortController();
  const seen = { messages: [], others: [], retries: [] };
  const parser = createParser({
    onEvent: ({ event, data, id }) => (event ? seen.others.push(event) : seen.messages.push({ data, id })),
    onRetry: (retry) => seen.retries.push(retry),
    onError: (error) => seen.others.push(error.message),
  });
  const answer = await fetch(new URL(`sse?channel=${channel}${query}`, server.url), { signal: abort.signal });
  const published = publishVectors(server.url, channel);
  const decoder = new TextDecoder();
  try {
    for await (const chunk of answer.body) {
      parser.feed(decoder.decode(chunk, { stream: true }));
      if (seen.messages.length >= VECTORS.length) break;
    }
  } finally {
    abort.abort();
  }
  await published;
  return seen;
}

for (const raw of [true, false]) {
  test(`a parser of others gives exactly what was published${raw ? ', raw' : ''}`, async () => {
    const seen = await read(`vectors:${raw}:${Date.now().toString(36)}`, raw ? '&raw=1' : '');
    assert.deepEqual([seen.others, seen.retries], [['hello'], []]);
    assertVectors(seen.messages, { raw });
  });
}
