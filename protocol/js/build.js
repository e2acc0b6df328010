/** Makes dist/tidings.js, the one file that the server serves. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export const BUNDLE = fileURLToPath(new URL('dist/tidings.js', import.meta.url));

/** The bundle's text, made from the sources as they are now. */
export async function bundle() {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('tidings.js', import.meta.url))],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    write: false,
  });
  return result.outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(BUNDLE, await bundle());
}
