/** Tokens: who gives them, what looks like one, and when the next one is due. */
import { TidingsError } from './errors.js';

/** What servers take: a JWT, or an API key. */
const TOKEN = /^([\w-]+\.[\w-]+\.[\w-]+|td_[\w-]+)$/;

/** A shorter delay would only ask again and again for tokens that are about to expire. */
const REFRESH_MS_MIN = 1_000;

/**
 * A promise of the token that `source` is, or gives where it is a function; null for none.
 *
 * Rejects with `token_failed`, which is retryable, where the function throws or gives anything else: the page of a proxy
 * that has an error to tell, for one.
 */
export async function tokenFrom(source) {
  if (typeof source !== 'function') return source ?? null;
  let token;
  try {
    token = await source();
  } catch (cause) {
    throw tokenFailed(`the token function failed: ${cause?.message ?? cause}`, cause);
  }
  if (token === null) return null;
  if (typeof token === 'string' && TOKEN.test(token.trim())) return token.trim();
  // Not the text itself: it may be a secret all the same.
  const what = typeof token === 'string' ? `a text of ${token.length} characters` : typeof token;
  throw tokenFailed(`the token function gave ${what}, which is no token; check \`response.ok\` before you take its text`);
}

/**
 * Milliseconds from `now` (in ms since 1970) until `token` should be replaced: 80 to 90 % of its life. null where it does not
 * say when it ends, or where that is over by a clock that must be wrong, as the server took it.
 */
export function refreshDelay(token, now, random) {
  const { exp, iat } = claimsOf(token);
  if (!Number.isFinite(exp)) return null;
  // Its whole life does not depend on this machine's clock, what is left of it does: the shorter one counts.
  const left = exp * 1000 - now;
  const lives = [left, (exp - iat) * 1000].filter((life) => life > 0);
  return lives.length ? Math.max(REFRESH_MS_MIN, Math.min(...lives) * (0.8 + 0.1 * random())) : null;
}

function claimsOf(token) {
  try {
    const [, body] = token.split('.');
    return JSON.parse(atob(body.replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return {};
  }
}

function tokenFailed(message, cause) {
  return new TidingsError('token_failed', message, true, cause);
}
