/** Options of queries as the library has them: what is not read, and what is read by default. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueryClient, QueryObserver, skipToken } from '@tanstack/query-core';
import { tidingsQuery } from '../tanstack.js';
import { labelled } from '../tidings.js';
import { world } from './support/world.js';

function querying(t) {
  const w = world();
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  client.mount();
  const fresh = tidingsQuery(w.client.cache(), client);
  t.after(() => (fresh.end(), client.clear(), client.unmount(), w.client.close()));
  return { w, client, fresh };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

test('a query that is skipped is not read', async (t) => {
  const { w, client, fresh } = querying(t);
  const observer = new QueryObserver(client, fresh({ queryKey: ['row'], queryFn: skipToken }));
  t.after(observer.subscribe(() => {}));
  await turn();
  assert.deepEqual([observer.getCurrentResult().fetchStatus, observer.getCurrentResult().status], ['idle', 'pending']);
  observer.setOptions(fresh({ queryKey: ['row'], queryFn: async () => labelled(1, { tags: ['row'] }) }));
  await w.clock.advance(2_000);
  await turn();
  assert.equal(observer.getCurrentResult().data, 1);
});

test('a query without a function is read by the default one, under the cache', async (t) => {
  const { w, client, fresh } = querying(t);
  await w.clock.advance(10);
  client.setQueryDefaults(['rows'], { queryFn: async ({ queryKey, basis }) => labelled([queryKey, basis !== undefined], { tags: ['row'] }) });
  const fetched = client.fetchQuery(fresh({ queryKey: ['rows', 7] }));
  await w.clock.advance(2_000);
  assert.deepEqual(await fetched, [['rows', 7], true]);
  assert.equal(w.client.cache().peek(client.getQueryCache().getAll()[0].queryHash).value.length, 2);
  await assert.rejects(client.fetchQuery(fresh({ queryKey: ['none'] })), /no queryFn/);
});
