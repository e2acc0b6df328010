/**
 * EventSource in a browser, its own and those that pages bring along: cut again and again under publishes, it misses nothing.
 *
 * `TIDINGS_CUTS=50 node --test test/browser.eventsource.test.js` cuts more often.
 */
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { SETTINGS, cutting, trimming } from './support/readers.js';
import { startBrowser, startServer } from './support/server.js';

/** What runs in the page: `open[NAME](url)` shows every event to `see({type, data})`. */
const PAGE = `
  import { EventSourcePolyfill } from 'event-source-polyfill';
  import { fetchEventSource } from '@microsoft/fetch-event-source';
  const events = (EventSource) => (url) => {
    const source = new EventSource(url);
    for (const type of ['message', 'hello', 'gap', 'continued', 'disconnect']) {
      source.addEventListener(type, ({ data }) => see({ type, data }));
    }
  };
  globalThis.open = {
    'EventSource': events(EventSource),
    'event-source-polyfill': events(EventSourcePolyfill),
    'fetch-event-source': (url) => fetchEventSource(url, {
      openWhenHidden: true,
      onmessage: ({ event, data }) => see({ type: event || 'message', data }),
      onclose: () => { throw new Error('come back'); },
      onerror: () => {},
    }),
  };
`;

let server;
let browser;
let script;

before(async () => {
  server = await startServer(SETTINGS);
  browser = await startBrowser();
  const resolveDir = fileURLToPath(new URL('..', import.meta.url));
  const built = await build({ stdin: { contents: PAGE, resolveDir }, bundle: true, format: 'iife', write: false });
  script = built.outputFiles[0].text;
});

after(async () => {
  await browser?.close();
  server?.stop();
});

/** Each reader has a page of its own, of the origin that its stream has. */
const inPage = (name) => async (url, see) => {
  const page = await browser.newPage();
  await page.exposeFunction('see', see);
  await page.goto(new URL('livez', url).href);
  await page.evaluate(script);
  await page.evaluate(([name, url]) => void globalThis.open[name](url), [name, url]);
  return () => page.close();
};

test('readers of pages', { concurrency: true }, async (t) => {
  const names = ['EventSource', 'event-source-polyfill', 'fetch-event-source'];
  await Promise.all(
    names.flatMap((name) => [
      t.test(`${name} misses nothing, wherever its stream is cut`, async (t) => {
        t.diagnostic(`${name}: ${JSON.stringify(await cutting(server, name, inPage(name)))}`);
      }),
      t.test(`${name} is told of a gap where history was trimmed`, () => trimming(server, name, inPage(name))),
    ]),
  );
});
