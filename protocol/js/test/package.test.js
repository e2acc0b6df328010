/** What is published and served: types, the bundle, its size and its names. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { BUNDLE, bundle } from '../build.js';
import * as sources from '../tidings.js';

/** The promise of the README: the whole client with its cache in 12.5 kB. */
const GZIPPED_BYTES_MAX = 12_800;

const root = fileURLToPath(new URL('..', import.meta.url));

test('the types compile, and refuse what is wrong', () => {
  const tsc = fileURLToPath(import.meta.resolve('typescript/bin/tsc'));
  execFileSync(process.execPath, [tsc, '--project', root], { stdio: ['ignore', 'inherit', 'inherit'] });
});

test('dist/tidings.js is what the sources make', async () => {
  const committed = await readFile(BUNDLE, 'utf8');
  assert.ok(committed === (await bundle()), 'dist/tidings.js is out of date: npm run build');
});

test('the bundle is small', async () => {
  const { length } = gzipSync(await readFile(BUNDLE));
  assert.ok(length <= GZIPPED_BYTES_MAX, `${length} bytes gzipped, ${GZIPPED_BYTES_MAX} at most`);
});

test('the bundle exports what the sources export', async () => {
  const bundled = await import('../dist/tidings.js');
  assert.deepEqual(Object.keys(bundled).sort(), Object.keys(sources).sort());
});

test('the package has no dependencies and no side effects', async () => {
  const manifest = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
  assert.deepEqual([manifest.dependencies, manifest.sideEffects, manifest.type], [undefined, false, 'module']);
});
