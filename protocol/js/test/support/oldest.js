/** For `--import`: the oldest version of the query library that the package admits takes the place of the newest one. */
import { register } from 'node:module';

const NAMES = JSON.stringify({ '@tanstack/query-core': 'query-core-oldest' });
const HOOK = `export const resolve = (name, context, next) => next(${NAMES}[name] ?? name, context);`;

register(`data:text/javascript,${encodeURIComponent(HOOK)}`);
