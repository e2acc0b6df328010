/** What is published and served: types, the bundle, its size and its names. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { BUNDLE, bundle } from '../build.js';
import * as sources from '../tidings.js';
import ts from 'typescript';

/** The promise of the README: the whole client with its cache in 18 kB. */
const GZIPPED_BYTES_MAX = 17.5 * 1024;

const root = fileURLToPath(new URL('..', import.meta.url));

test('the types compile, and refuse what is wrong', () => {
  const tsc = fileURLToPath(import.meta.resolve('typescript/bin/tsc'));
  execFileSync(process.execPath, [tsc, '--project', root], { stdio: ['ignore', 'inherit', 'inherit'] });
});

test('the examples of the README compile', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const blocks = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, block]) => block);
  assert.equal(blocks.length, 3);
  const isImport = (line) => line.startsWith('import ');
  const imports = new Set(blocks.flatMap((block) => block.split('\n').filter(isImport)).map((line) => line.replace(/;.*/, ';')));
  const body = (block) => `{\n${block.split('\n').filter((line) => !isImport(line)).join('\n')}\n}`;
  const known = ['render', 'reload', 'append', 'showThatMessagesAreMissing', 'show', 'hide', 'badge', 'log', 'showThatItIsOld'];
  const text = [
    ...imports,
    "import { useQuery, type QueryClient } from '@tanstack/react-query';",
    "declare const t: ReturnType<typeof tidings>, queryClient: QueryClient, signal: AbortSignal, body: string;",
    ...known.map((name) => `declare function ${name}(...what: unknown[]): void;`),
    `async function examples() {${blocks.map(body).join('\n')}}`,
    'export { examples };',
  ].join('\n');
  assert.deepEqual(compile(text), []);
  assert.notDeepEqual(compile(`${text}\nt.nothing();`), [], 'what is wrong is found');
});

/** What the compiler says of a file beside the tests. */
function compile(text) {
  const name = fileURLToPath(new URL('readme.ts', import.meta.url));
  const config = ts.readConfigFile(fileURLToPath(new URL('../tsconfig.json', import.meta.url)), ts.sys.readFile).config;
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  // The examples are JavaScript.
  options.noImplicitAny = false;
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile: read, getSourceFile } = host;
  host.fileExists = (file) => file === name || fileExists(file);
  host.readFile = (file) => (file === name ? text : read(file));
  host.getSourceFile = (file, version) =>
    file === name ? ts.createSourceFile(file, text, version, true, ts.ScriptKind.TS) : getSourceFile(file, version);
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

test('the adapter works with the oldest version of the library that the package admits', async () => {
  const { peerDependencies, devDependencies } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
  const oldest = peerDependencies['@tanstack/query-core'].slice(1);
  assert.equal(devDependencies['query-core-oldest'], `npm:@tanstack/query-core@${oldest}`);
  const [hook, tests] = ['support/oldest.js', 'tanstack.test.js'].map((file) => fileURLToPath(new URL(file, import.meta.url)));
  const { NODE_TEST_CONTEXT, ...env } = process.env;
  const how = { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] };
  const said = execFileSync(process.execPath, ['--import', hook, '--test', '--test-reporter=tap', tests], how);
  assert.match(said, /^# pass [1-9]/m);
});

test('the package has its licences, and only what it needs', () => {
  const said = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const files = JSON.parse(said)[0].files.map(({ path }) => path);
  for (const file of ['LICENSE-MIT', 'LICENSE-APACHE', 'README.md', 'tidings.d.ts', 'tanstack.d.ts', 'dist/tidings.js']) {
    assert.ok(files.includes(file), `${file} is missing`);
  }
  assert.deepEqual(files.filter((file) => /test|node_modules|build\.js|tsconfig/.test(file)), []);
});

test('the licences are those of the project', async () => {
  for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
    const [own, project] = await Promise.all(['../', '../../../'].map((up) => readFile(new URL(up + name, import.meta.url), 'utf8')));
    assert.equal(own, project, name);
  }
});

test('the bundle and the manifest can be asked for by name', () => {
  for (const name of ['tidings', 'tidings/tanstack', 'tidings/dist/tidings.js', 'tidings/package.json']) {
    assert.ok(import.meta.resolve(name).startsWith('file:'), name);
  }
  assert.throws(() => import.meta.resolve('tidings/connection.js'), 'what is internal stays so');
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
