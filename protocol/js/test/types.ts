/** Compiled, never run: the types say what the client does. */
import { tidings, TidingsError, type Gap, type Position, type State } from 'tidings';

const t = tidings('https://rt.example.com', { token: async () => 'token' });

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
  const { messages, more } = await t.history<number>('room:7', { since: position, limit: 10 });
  if (more) throw new TidingsError('more', `${ack} ${messages[0]?.data.toFixed()}`, true);
  return t.position('room:7');
}

// @ts-expect-error a listener is a function
t.subscribe('tickets', 'listener');
// @ts-expect-error an address is text or a URL
tidings(7);
