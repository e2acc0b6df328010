/**
 * The example of a cache in a real browser, against the real server: two pages look at two lists that are edited all the time,
 * while their lines are cut or fall silent. What each page shows as fresh, and for how long, is compared with the history of the
 * data.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { serve } from '../../../examples/cache/serve.mjs';
import { startProxy } from './support/proxy.js';
import { startBrowser, startServer } from './support/server.js';

const EDITS = 200;
const CUTS = 20;
/** A line may be silent for much longer than a lease. */
const SILENCE_MS = 6_000;
/** How long a busy machine may take from the end of a lease to the paint that says so. */
const SLACK_MS = 400;
const LISTS = ['open', 'closed'];

let server;
let browser;

before(async () => {
  server = await startServer({ TIDINGS__FRESH__LEASE: '2s' });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const upTo = (ms) => Math.random() * ms;
const pick = (list) => list[Math.floor(upTo(list.length))];

/** The data of the example, slow to be read, and when everybody may rely on each change of its lists: `history[status][change]`. */
async function startTickets() {
  const tickets = await serve(0, server.url);
  const { list, move } = tickets;
  const history = { open: [0], closed: [0] };
  tickets.list = async (status) => {
    await sleep(upTo(40));
    const given = await list.call(tickets, status);
    await sleep(upTo(40));
    return given;
  };
  tickets.move = async (id, status) => {
    const moved = move.call(tickets, id, status);
    const changes = [];
    for (const each of LISTS) changes.push([each, (await list.call(tickets, each)).change]);
    const answer = await moved;
    for (const [each, change] of changes) history[each][change] ??= Date.now();
    return answer;
  };
  return Object.assign(tickets, { history });
}

/** Notes what the page shows whenever that changes. */
function watchPaints() {
  window.paints = [];
  const note = (section) => {
    const change = Number(/change (\d+)/.exec(section.querySelector('p').textContent)?.[1]);
    window.paints.push({ status: section.id, state: section.dataset.state, change, at: Date.now() });
  };
  const observer = new MutationObserver((records) => {
    for (const section of new Set(records.map(({ target }) => target.closest?.('section')))) if (section) note(section);
  });
  observer.observe(document, { subtree: true, childList: true, attributes: true });
}

async function openPage(t, tickets) {
  const proxy = await startProxy(server.url);
  const page = await browser.newPage();
  t.after(async () => (await page.close(), proxy.stop()));
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.addInitScript(watchPaints);
  await page.goto(`${tickets.url}?server=${encodeURIComponent(proxy.url)}`);
  await page.waitForSelector('#open[data-state=fresh]');
  return { page, proxy, complaints, disturbed: Promise.resolve() };
}

async function edit({ page }, tickets) {
  const [id, status] = [1 + Math.floor(upTo(6)), pick(LISTS)];
  if (Math.random() < 0.5) return tickets.move(id, status);
  const button = page.locator('button').nth(Math.floor(upTo(6)));
  return button.evaluate((element) => element.click()).catch(() => {});
}

/** Cuts the line of a page, or lets it fall silent for a while, when it has recovered from the last time. */
function disturb(page) {
  page.disturbed = page.disturbed.then(async () => {
    await sleep(upTo(500));
    if (Math.random() < 0.6) return page.proxy.cut();
    page.proxy.fallSilent();
    await sleep(upTo(SILENCE_MS));
    return page.proxy.recover();
  });
}

/** The paint that was fresh for the longest time after the next change was acknowledged, and for how many ms. */
function worstOf(paints, history, end) {
  const late = LISTS.flatMap((status) => {
    const shown = paints.filter((paint) => paint.status === status);
    return shown.map((paint, i) => {
      const next = Math.min(Infinity, ...history[status].slice(paint.change + 1));
      return { ...paint, late: paint.state === 'fresh' ? (shown[i + 1]?.at ?? end) - next : -Infinity };
    });
  });
  return late.reduce((worst, other) => (other.late > worst.late ? other : worst));
}

test(`${EDITS} edits and ${CUTS} cuts: no page shows as fresh what was replaced more than a lease ago`, async (t) => {
  const tickets = await startTickets();
  t.after(() => tickets.stop());
  const pages = [await openPage(t, tickets), await openPage(t, tickets)];
  const { lease_ms: lease } = await pages[0].page.evaluate(async (url) => {
    const { tidings } = await import(new URL('tidings.js', url));
    const client = tidings(url);
    while (!client.session) await new Promise((resolve) => client.addEventListener('state', resolve, { once: true }));
    client.close();
    return client.session;
  }, server.url);
  for (let n = 0; n < EDITS; n++) {
    if (n % (EDITS / CUTS) === 0) disturb(pages[((n * CUTS) / EDITS) % 2]);
    await edit(pick(pages), tickets);
    await sleep(upTo(150));
  }
  for (const { disturbed } of pages) await disturbed;
  for (const { page } of pages) {
    for (const status of LISTS) {
      await page.waitForFunction(([status, change]) => {
        const last = window.paints.findLast((paint) => paint.status === status);
        return last.state === 'fresh' && last.change === change;
      }, [status, tickets.history[status].length - 1], { timeout: 20_000 });
    }
  }
  for (const { page, complaints } of pages) {
    const paints = await page.evaluate(() => window.paints);
    const worst = worstOf(paints, tickets.history, Date.now());
    const counts = ['fresh', 'stale'].map((state) => paints.filter((paint) => paint.state === state).length);
    t.diagnostic(`${counts[0]} fresh paints, ${counts[1]} stale ones; one was fresh ${worst.late} ms after its successor`);
    assert.ok(worst.late <= lease + SLACK_MS, `${worst.status} was fresh at change ${worst.change}, ${worst.late} ms after the next`);
    assert.ok(Math.min(...counts) >= 20, `${counts} paints`);
    assert.deepEqual(complaints, []);
  }
  assert.ok(LISTS.every((status) => tickets.history[status].length > 20));
});
