/** Compiled, never run: the types say what the client does. */
import { QueryClient, QueryObserver, skipToken } from '@tanstack/query-core';
import { useQuery, useSuspenseQuery } from '@tanstack/react-query';
import { tidingsQuery } from 'tidings/tanstack';
import { labelled, tidings, TidingsError, type Gap, type Position, type State, type View } from 'tidings';

const t = tidings('https://rt.example.com', { token: async () => (Math.random() < 0.5 ? 'token' : null) });
// @ts-expect-error a token is text, or null
tidings('https://rt.example.com', { token: async () => undefined });

const off: () => void = t.subscribe<{ id: number }>('tickets', (message) => message.data.id.toFixed(), {
  since: '7-k3v9q.12',
  onGap: (gap: Gap) => gap.reason === 'trimmed',
  signal: new AbortController().signal,
});
off();

t.addEventListener('state', (event) => {
  const state: State = event.detail;
  return state;
});
t.addEventListener('degraded', ({ detail }) => detail.component + detail.since.toFixed());
t.addEventListener('restored', ({ detail }) => detail.component.trim());
t.addEventListener('gap', ({ detail }) => detail.channel + detail.reason + detail.position?.offset);

const room = t.presence('room:7');
room.addEventListener('join', ({ detail }) => detail.user.trim() + detail.since.toFixed());
room.addEventListener('end', ({ detail }) => detail?.code);
room.members().map(({ session }) => session === t.session?.session);
room.close();

export async function use(): Promise<Position | null> {
  for await (const item of t.stream<string>('chat:7')) {
    if (item.gap) return item.gap.position;
    item.data.toUpperCase();
    // @ts-expect-error a message has no such field
    item.body;
  }
  const { position, ack } = await t.publish('room:7', new Uint8Array(3), { idempotencyKey: 'k' });
  const { messages, more, gap } = await t.history<number>('room:7', { since: position, limit: 10 });
  if (gap === 'trimmed') return null;
  if (more) throw new TidingsError('more', `${ack} ${messages[0]?.data.toFixed()}`, true);
  return t.position('room:7');
}

// @ts-expect-error a listener is a function
t.subscribe('tickets', 'listener');
// @ts-expect-error an address is text or a URL
tidings(7);

const cache = t.cache({ ns: 'shop', swr: true, persist: { load: () => [], save: (key, entry) => key + entry?.basis.epoch } });
const policy = { ttl: 300_000, tags: ['ticket:1'] };
const ticket: Promise<View<{ id: number }>> = cache.get<{ id: number }>('ticket:1', ({ signal, cache }) => fetch('/tickets/1', { signal, cache }), policy);
cache.get('ticket:1', ({ signal, cache }) => fetch('/tickets/1', { signal, cache })).then(({ value }) => {
  // @ts-expect-error the value is what the response holds, and no response
  value.json();
});
const count: Promise<number> = cache.get('count', async () => labelled(7, { tags: ['tickets'] })).then(({ value }) => value);
const end: () => void = cache.subscribe<number>('count', ({ value, state }) => state === 'fresh' && value?.toFixed());
end();
const source = cache.mutated({ tags: ['tickets'], position: '7-k3v9q.12', basis: '7-k3v9q.10' });
const kept: boolean = cache.set('count', 8, { tags: ['tickets'], ...source });
// @ts-expect-error what a mutation touched is to be said
cache.mutated({ position: '7-k3v9q.12' });
// @ts-expect-error an object of a program is no label
labelled(7, { tags: ['tickets'] }).value;
// @ts-expect-error there is no such state
cache.peek('count')?.state === 'new';

const client = new QueryClient();
const fresh = tidingsQuery(cache, client);
const observer = new QueryObserver(client, fresh({ queryKey: ['count'], queryFn: async () => labelled(7, { tags: ['tickets'] }), tags: ['all'] }));
const current: number | undefined = observer.getCurrentResult().data;
// @ts-expect-error freshness is not a matter of time
fresh({ queryKey: ['count'], queryFn: () => 7, staleTime: 5 });

export function Component({ id }: { id?: number }) {
  const row = fresh({ queryKey: ['row'], queryFn: async ({ basis }) => ({ id: basis?.offset ?? 0 }) });
  const certain: { id: number } = useSuspenseQuery(row).data;
  const perhaps: { id: number } | undefined = useQuery(row).data;
  const name: string | undefined = useQuery(fresh({ queryKey: ['n'], queryFn: async () => 7, select: (n: number) => n.toFixed() })).data;
  const fetched: unknown = useQuery(fresh({ queryKey: ['row'], queryFn: ({ signal }) => fetch('/row', { signal }) })).data;
  const typed: { id: number } | undefined = useQuery(fresh<{ id: number }>({ queryKey: ['row'], queryFn: () => fetch('/row') })).data;
  const skipped = fresh({ queryKey: ['row', id], queryFn: id === undefined ? skipToken : async () => id });
  const some: number | undefined = useQuery(skipped).data;
  // @ts-expect-error what may be skipped cannot be waited for
  useSuspenseQuery(skipped);
  const byDefault: unknown = useQuery(fresh({ queryKey: ['/row'] })).data;
  const known: number | undefined = client.getQueryData(fresh({ queryKey: ['n'], queryFn: async () => 7 }).queryKey);
  return [certain, perhaps, name, fetched, typed, some, byDefault, known];
}

export const seen = [count, kept, current, ticket];
