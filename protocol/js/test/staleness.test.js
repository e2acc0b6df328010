/**
 * Whole histories of a cache: see `support/staleness.js`. `TIDINGS_SEEDS=10000 node --test test/staleness.test.js` runs more of them.
 *
 * Each rule that such a history depends on is also switched off in a copy of the sources: a simulation that does not see that
 * proves nothing.
 */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { happened, simulate } from './support/staleness.js';

const SEEDS = Number(process.env.TIDINGS_SEEDS ?? 300);

test(`${SEEDS} seeds: nothing is called fresh that lacks a write of more than a lease ago`, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    await simulate(seed).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    });
  }
  const wheres = ['get', 'peek', 'listener'].flatMap((where) => [`fresh ${where}`, `stale ${where}`]);
  const faults = ['cut', 'stall', 'unreachable', 'silent', 'sleep', 'renamed', 'failover', 'forget', 'escalate', 'restart'];
  for (const name of [...wheres, ...faults, 'set kept', 'set stale', 'force']) {
    assert.ok(happened.get(name) >= 20, `${name} happened ${happened.get(name) ?? 0} times`);
  }
});

/** What the rule is, the file that has it, and its text with the one that lacks it. */
const RULES = [
  ['what began before a newer value is not shown', 'cache.js', '|| !this.#isNewest(entry, attempt)', ''],
  ['a value without tags is never fresh', 'reading.js', 'tags ? tags.map(tagFrom) : null', '(tags ?? []).map(tagFrom)'],
  ['the basis of an answer is that of before the transaction', 'cache.js', 'basis: basis ?? undefined', 'basis: position ?? undefined'],
  ['force joins no read that began before', 'cache.js', 'if (!reader || reader.again())', 'if (true)'],
  ['a mutation without a position makes values stale', 'cache.js', 'if (!isTouched(entry)) continue;', 'continue;'],
  ['a mutation without a position makes reads on their way vain', 'cache.js', 'reader.doubt(touched)', '0'],
  ['a read begins no earlier than what is shown', 'entry.js', 'isBefore(horizon, this.reflects)', 'false'],
  ['a value without a basis is stale', 'cache.js', 'readAt: at, has: true, tracked: isKept', 'readAt: at, has: true, tracked: true'],
];

for (const [rule, file, text, without] of RULES) {
  test(`the seeds find out where it does not hold that ${rule}`, async (t) => {
    const js = fileURLToPath(new URL('..', import.meta.url));
    const copy = await mkdtemp(join(tmpdir(), 'tidings-'));
    t.after(() => rm(copy, { recursive: true }));
    for (const name of (await readdir(js)).filter((name) => /\.js$|^package.json$/.test(name))) await cp(join(js, name), join(copy, name));
    await cp(join(js, 'test/support'), join(copy, 'test/support'), { recursive: true });
    const source = await readFile(join(copy, file), 'utf8');
    assert.equal(source.split(text).length, 2, `${file} has once: ${text}`);
    await writeFile(join(copy, file), source.replace(text, without));
    const { simulate } = await import(pathToFileURL(join(copy, 'test/support/staleness.js')));
    for (let seed = 1; seed <= SEEDS; seed++) {
      const error = await simulate(seed).catch((error) => error);
      if (error) return t.diagnostic(`seed ${seed}: ${error.message.split('\n')[0]}`);
    }
    assert.fail(`not found in ${SEEDS} seeds`);
  });
}
