/** The vectors of event streams (`protocol/vectors/sse.json`): published to a server, and what a reader must make of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

export const VECTORS = JSON.parse(readFileSync(new URL('../../../vectors/sse.json', import.meta.url), 'utf8'));

/** Publishes all of them, in order. */
export async function publishVectors(url, channel) {
  for (const { name, type, body, b64, id, key } of VECTORS) {
    const target = new URL(`v1/publish/${encodeURIComponent(channel)}`, url);
    for (const [option, value] of Object.entries({ id, key })) {
      if (value !== undefined) target.searchParams.set(option, value);
    }
    const bytes = b64 === undefined ? body : Buffer.from(b64, 'base64');
    const answer = await fetch(target, { method: 'POST', headers: { 'content-type': type }, body: bytes });
    assert.equal(answer.status, 200, `${name}: ${await answer.text()}`);
  }
}

/** Fails unless the events, `{data, id}` each, are the vectors and nothing else. */
export function assertVectors(events, { raw }) {
  assert.equal(events.length, VECTORS.length);
  for (const [index, vector] of VECTORS.entries()) {
    const { data, id } = events[index];
    assert.match(id ?? '', /^[\w-]*$/, `${vector.name}: the last id is a cursor`);
    if (raw) assert.equal(data, vector.raw, vector.name);
    else assertWhole(JSON.parse(data), vector);
  }
}

function assertWhole({ data, b64, id, key }, vector) {
  const expected = vector.type === 'application/json' ? JSON.parse(vector.body) : vector.body;
  assert.deepEqual({ data, b64, id, key }, { data: expected, b64: vector.b64, id: vector.id, key: vector.key }, vector.name);
}
