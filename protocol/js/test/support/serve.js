/**
 * The model hub on a real port, with the live page: to look at the page without the server.
 *
 *     node test/support/serve.js 8080
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { Hub } from './hub.js';

const file = (path) => new URL(`../../${path}`, import.meta.url);
const FILES = {
  '/': [file('../../src/console/index.html'), 'text/html; charset=utf-8'],
  '/console.css': [file('../../src/console/console.css'), 'text/css; charset=utf-8'],
  '/console.js': [file('../../src/console/console.js'), 'text/javascript; charset=utf-8'],
  '/icon.svg': [file('../../src/console/icon.svg'), 'image/svg+xml'],
  '/tidings.js': [file('dist/tidings.js'), 'text/javascript; charset=utf-8'],
};

const hub = new Hub({ historySize: 50 });

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const publish = /^\/v1\/publish\/(.+)$/.exec(pathname);
  if (publish && request.method === 'POST') {
    const position = hub.publish(decodeURIComponent(publish[1]), [{ data: dataFrom(await bodyOf(request)) }]);
    return response.end(JSON.stringify({ position, ack: 'stored' }));
  }
  const [path, type] = FILES[pathname] ?? [];
  if (!path) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': type, 'content-security-policy': "default-src 'self'" });
  response.end(await readFile(path));
});

new WebSocketServer({ server, path: '/ws' }).on('connection', (socket) => {
  const session = hub.attach((frame) => socket.send(JSON.stringify(frame)));
  socket.on('message', (text) => session.handle(text));
  socket.on('close', () => hub.detach(session));
});

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function dataFrom(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => console.error(`http://127.0.0.1:${server.address().port}/`));
