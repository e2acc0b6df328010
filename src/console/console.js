/**
 * The live page: what a program would do with the client, with knobs.
 *
 * Everything a peer can send is shown as text, never as markup.
 */
import { tidings } from '/tidings.js';

/** Messages kept on the page. */
const SHOWN_MAX = 200;

/** Seconds over which the rate of batches is averaged. */
const RATE_SECONDS = 5;

const $ = (id) => document.getElementById(id);
const counts = { messages: 0, gaps: 0, reconnects: 0 };

/** The way to the server, which the cut button breaks. */
const line = { cut: false, batches: 0 };

class BreakableSocket extends WebSocket {
  constructor(...args) {
    if (line.cut) throw new Error('the connection was cut by hand');
    super(...args);
    this.addEventListener('message', ({ data }) => {
      if (typeof data === 'string' && data.includes('"batch":')) line.batches++;
    });
  }
}

const client = tidings(location.origin, { WebSocket: BreakableSocket });

// Connection

let connected = false;

function showState(state) {
  $('state').textContent = state;
  $('state').dataset.state = state;
  if (state !== 'connecting' && state !== 'offline') showSession(client.session);
}

function showSession({ session, batch_ms: batch, ping_interval_ms: ping }) {
  if (session === $('session-name').textContent) return;
  if (connected) count('reconnects');
  connected = true;
  $('session-name').textContent = session;
  $('session-batch').textContent = `${batch} ms`;
  $('session-ping').textContent = `${ping / 1000} s`;
  hideNotice();
}

function toggleCut() {
  line.cut = !line.cut;
  $('cut').dataset.cut = line.cut;
  $('cut').textContent = line.cut ? 'Restore connection' : 'Cut connection';
  hideNotice();
  client.reconnect();
}

function showNotice(text) {
  $('notice').textContent = text;
  $('notice').hidden = false;
}

function hideNotice() {
  $('notice').hidden = true;
}

client.addEventListener('state', ({ detail }) => showState(detail));
client.addEventListener('error', ({ detail }) => {
  if (detail.channel) unsubscribe(detail.channel);
  // While the line is cut every attempt fails, as it should.
  if (!line.cut) showNotice(detail.code ? `${detail.message} (${detail.code})` : String(detail));
});
$('cut').addEventListener('click', toggleCut);

// Channels

/** channel → the function that ends its subscription */
const subscriptions = new Map();

/** The address remembers the channels: `#tickets&room%3A7`. */
function channelsInAddress() {
  try {
    return location.hash.slice(1).split('&').filter(Boolean).map(decodeURIComponent);
  } catch {
    return []; // A broken escape; nobody's link.
  }
}

function rememberChannels() {
  const hash = [...subscriptions.keys()].map(encodeURIComponent).join('&');
  history.replaceState(null, '', `#${hash}`);
}

function subscribe(channel) {
  if (subscriptions.has(channel)) return;
  const onGap = (gap) => showGap(channel, gap);
  subscriptions.set(channel, client.subscribe(channel, showMessage, { onGap }));
  $('channels').append(channelItem(channel));
  rememberChannels();
}

function unsubscribe(channel) {
  subscriptions.get(channel)?.();
  subscriptions.delete(channel);
  for (const item of $('channels').children) if (item.dataset.channel === channel) item.remove();
  rememberChannels();
}

function channelItem(channel) {
  const remove = element('button', { type: 'button', textContent: '×' });
  remove.setAttribute('aria-label', `Unsubscribe from ${channel}`);
  remove.addEventListener('click', () => unsubscribe(channel));
  const item = element('li', {}, element('span', { textContent: channel }), remove);
  item.dataset.channel = channel;
  return item;
}

/** Subscribes to exactly `channels`. */
function followAddress(channels) {
  for (const channel of [...subscriptions.keys()]) if (!channels.includes(channel)) unsubscribe(channel);
  channels.forEach(subscribe);
}

$('subscribe').addEventListener('submit', (event) => {
  event.preventDefault();
  subscribe($('subscribe-channel').value);
  $('subscribe').reset();
});
addEventListener('hashchange', () => followAddress(channelsInAddress()));

// Messages

/** Lines that the next frame of the screen shows, newest first; a page in the background gets no frames. */
let waiting = [];

function showMessage({ channel, data, offset, epoch, time }) {
  count('messages');
  show(() => {
    const item = lineItem('message', channel, time, offset ?? '');
    item.append(element('pre', { textContent: pretty(data) }));
    if (offset !== undefined) Object.assign(item.dataset, { offset, epoch });
    return item;
  });
}

function showGap(channel, { reason, position }) {
  count('gaps');
  show(() => {
    const item = lineItem('gap', channel, undefined, position?.offset ?? '?');
    item.dataset.reason = reason;
    item.append(element('span', { textContent: `gap: ${reason}; messages before this point are missing` }));
    return item;
  });
}

function show(makeItem) {
  if (waiting.length === 0) requestAnimationFrame(flush);
  waiting.unshift(makeItem);
  waiting.length = Math.min(waiting.length, SHOWN_MAX);
}

function flush() {
  const list = $('messages');
  list.prepend(...waiting.map((makeItem) => makeItem()));
  waiting = [];
  while (list.children.length > SHOWN_MAX) list.lastChild.remove();
}

function lineItem(kind, channel, time, offset) {
  const at = new Date(time ?? Date.now());
  const item = element(
    'li',
    {},
    element('time', { textContent: at.toLocaleTimeString([], { hour12: false }), dateTime: at.toISOString() }),
    element('span', { className: 'channel', textContent: channel, title: channel }),
    element('span', { className: 'offset', textContent: offset === '' ? '' : `#${offset}` }),
  );
  Object.assign(item.dataset, { kind, channel });
  return item;
}

function pretty(data) {
  if (typeof data === 'string') return data;
  if (data instanceof Uint8Array) return `${data.length} bytes: ${Array.from(data.subarray(0, 64), hex).join(' ')}`;
  const short = JSON.stringify(data);
  return short.length <= 80 ? short : JSON.stringify(data, null, 2);
}

function hex(byte) {
  return byte.toString(16).padStart(2, '0');
}

$('clear').addEventListener('click', () => $('messages').replaceChildren());

// Publishing

/** JSON if it parses, else text: the rule of a bare `curl -d`. */
function parsed(text) {
  try {
    return { kind: 'JSON', data: JSON.parse(text) };
  } catch {
    return { kind: 'text', data: text };
  }
}

async function publish() {
  const channel = $('publish-channel').value;
  const { data } = parsed($('publish-data').value);
  try {
    const { position, ack } = await client.publish(channel, data);
    showResult(position ? `${ack} at ${position.epoch}.${position.offset}` : ack, 'good');
  } catch (error) {
    showResult(`${error.message} (${error.code ?? error.name})`, 'bad');
  }
}

function showResult(text, kind) {
  $('publish-result').textContent = text;
  $('publish-result').dataset.kind = kind;
}

function showCommand() {
  const text = $('publish-data').value;
  const quoted = `'${text.replaceAll("'", "'\\''")}'`;
  // curl reads a file where its data begins with @.
  const flag = text.startsWith('@') ? '--data-raw' : '-d';
  $('publish-kind').textContent = parsed(text).kind;
  const url = `${location.origin}/v1/publish/${encodeURIComponent($('publish-channel').value)}`;
  $('curl').textContent = `curl ${flag} ${quoted} ${url}`;
}

async function copyCommand() {
  try {
    await navigator.clipboard.writeText($('curl').textContent);
    $('copy-curl').textContent = 'Copied';
  } catch {
    // Without the clipboard's permission the line is at least selected.
    getSelection().selectAllChildren($('curl'));
    $('copy-curl').textContent = 'Selected';
  }
  setTimeout(() => ($('copy-curl').textContent = 'Copy'), 2000);
}

$('publish').addEventListener('submit', (event) => {
  event.preventDefault();
  publish();
});
$('publish').addEventListener('input', showCommand);
$('publish-data').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('publish').requestSubmit();
});
$('copy-curl').addEventListener('click', copyCommand);

// Counters

function count(name) {
  counts[name]++;
  $(`count-${name}`).textContent = counts[name].toLocaleString();
}

/** Batches of each of the last seconds. */
const seconds = [];

setInterval(() => {
  seconds.push(line.batches);
  line.batches = 0;
  if (seconds.length > RATE_SECONDS) seconds.shift();
  $('count-rate').textContent = (seconds.reduce((sum, n) => sum + n, 0) / seconds.length).toFixed(1);
}, 1000);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

showState(client.state);
showCommand();
const remembered = channelsInAddress();
followAddress(remembered.length ? remembered : ['tickets']);
