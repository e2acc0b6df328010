#!/usr/bin/env node
/**
 * A small ticket system with its data in memory, whose pages cache two lists of it and never show a stale one unsaid.
 *
 *   examples/cache/serve.mjs [PORT [TIDINGS]]
 *
 * It listens on 127.0.0.1:5173 and tells the tidings server at http://127.0.0.1:8080 what changes.
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const PAGE = new URL('index.html', import.meta.url);

/** Starts it on `port` of this machine; a promise of the `Tickets`. */
export async function serve(port, tidings) {
  const tickets = new Tickets(tidings);
  const server = createServer((request, response) => {
    answer(tickets, request, response).catch((error) => response.writeHead(502).end(`${error.message}\n`));
  });
  await new Promise((resolve, reject) => server.on('error', reject).listen(port, '127.0.0.1', resolve));
  tickets.url = `http://127.0.0.1:${server.address().port}/`;
  tickets.stop = () => (server.close(), server.closeAllConnections());
  return tickets;
}

class Tickets {
  #rows = new Map();
  /** How often each list changed. */
  #changes = { open: 0, closed: 0 };

  constructor(tidings) {
    this.tidings = tidings;
    for (let id = 1; id <= 6; id++) this.#rows.set(id, { id, status: id % 2 ? 'open' : 'closed', edits: 0 });
  }

  async list(status) {
    return { change: this.#changes[status], tickets: [...this.#rows.values()].filter((row) => row.status === status) };
  }

  /**
   * Moves a ticket to the list of this status; gives what was touched, and the mutation's position. The data is changed before
   * the server is told: whoever reads again because of it must find it.
   */
  async move(id, status) {
    const before = this.#rows.get(id);
    const after = { ...before, status, edits: before.edits + 1 };
    this.#rows.set(id, after);
    const lists = new Set([before.status, after.status]);
    for (const list of lists) this.#changes[list]++;
    const tags = [`ticket:${id}`, ...[...lists].map((list) => `tickets:${list}`)];
    const mutation = { entity: 'ticket', key: String(id), op: 'update', tags };
    const told = await fetch(new URL('v1/mutations', this.tidings), { method: 'POST', body: JSON.stringify(mutation), headers: JSON_TYPE });
    if (!told.ok) throw new Error(`the server of mutations answered ${told.status}: ${await told.text()}`);
    return { tags, position: (await told.json()).position };
  }
}

const JSON_TYPE = { 'content-type': 'application/json' };

async function answer(tickets, request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const [, id] = /^\/tickets\/([1-6])$/.exec(pathname) ?? [];
  const status = searchParams.get('status') === 'closed' ? 'closed' : 'open';
  if (request.method === 'GET' && pathname === '/') {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(await readFile(PAGE));
  } else if (request.method === 'GET' && pathname === '/tickets') {
    // RFC 9875: what the answer depends on.
    response.writeHead(200, { ...JSON_TYPE, 'cache-groups': `"tickets:${status}"` }).end(JSON.stringify(await tickets.list(status)));
  } else if (request.method === 'POST' && id) {
    const { tags, position } = await tickets.move(Number(id), status);
    const touched = { 'cache-group-invalidation': tags.map((tag) => `"${tag}"`).join(', ') };
    response.writeHead(204, { ...touched, 'tidings-mutation': `${position.epoch}.${position.offset}` }).end();
  } else {
    response.writeHead(404).end();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [port = '5173', tidings = 'http://127.0.0.1:8080/'] = process.argv.slice(2);
  const { url } = await serve(Number(port), tidings);
  console.log(`${url} shows the tickets; move one with\n  curl -X POST '${url}tickets/1?status=closed'`);
}
