/** The real server, started for a test, and the browser that looks at it. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const built = (profile) => fileURLToPath(new URL(`../../../../target/${profile}/tidings`, import.meta.url));
const BUILT = ['release', 'debug'].map(built);
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const START_MS = 10_000;

/**
 * A server in dev mode on a free port: `{url, stop}`, where `url` ends in a slash.
 *
 * `TIDINGS_URL` names one that runs already; `TIDINGS_BIN` a binary, which is otherwise looked for in target/. `settings` are
 * variables of its environment.
 */
export async function startServer(settings = {}) {
  if (process.env.TIDINGS_URL) return { url: new URL('/', process.env.TIDINGS_URL).href, stop: () => {} };
  const binary = process.env.TIDINGS_BIN ?? BUILT.find((path) => existsSync(path));
  if (!binary || !existsSync(binary)) {
    throw new Error(`no server at ${binary ?? BUILT.join(' or ')}: run "cargo build", or set TIDINGS_BIN to the binary`);
  }
  const server = spawn(binary, ['dev', '--listen', '127.0.0.1:0'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...settings },
  });
  try {
    return { url: await bannerUrl(server), stop: () => server.kill() };
  } catch (error) {
    server.kill();
    throw error;
  }
}

/** A headless browser; fails with what to install. */
export async function startBrowser() {
  if (!existsSync(CHROMIUM)) {
    throw new Error(`no browser at ${CHROMIUM}: install Debian's package "chromium", or set CHROMIUM to the path of one`);
  }
  const quiet = ['quic', 'background-networking', 'component-update', 'sync', 'gpu'].map((name) => `--disable-${name}`);
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--no-first-run', ...quiet] });
}

/** The address of the live page, which the banner on stderr names. */
function bannerUrl(server) {
  return new Promise((resolve, reject) => {
    let said = '';
    const fail = (why) => reject(new Error(`the server ${why}; it said:\n${said}`));
    const timer = setTimeout(() => fail(`printed no "Live page" line within ${START_MS / 1000} s`), START_MS);
    server.on('error', (error) => fail(`did not start: ${error.message}`));
    server.on('exit', (code) => fail(`ended with ${code}`));
    server.stderr.on('data', (chunk) => {
      said += chunk;
      const [, url] = /Live page\s+(http:\/\/[^\s\u001b]+)/.exec(said) ?? [];
      if (!url) return;
      clearTimeout(timer);
      resolve(url);
    });
  });
}
