/** What a fetcher gave: a value, the tags that it depends on, and the basis that came with it. */
import { TidingsError } from './errors.js';
import { positionFrom } from './position.js';
import { tagFrom } from './tag.js';

/** The headers of RFC 9875, the one for the position that an answer reflects, and the one for that of a mutation. */
const GROUPS = 'cache-groups';
const INVALIDATED = 'cache-group-invalidation';
const BASIS = 'tidings-basis';
const MUTATION = 'tidings-mutation';

/** A value with its source. It has a class of its own, so that no value of a program is taken for one. */
export class Reading {
  /** `tags` are null where nobody said what the value depends on; none on purpose means that it never changes. */
  constructor(value, { tags, basis, except } = {}) {
    this.value = value;
    this.tags = tags ? tags.map(tagFrom) : null;
    this.basis = positionFrom(basis);
    this.except = positionFrom(except) ?? undefined;
  }

  /** The same, depending on `tags` too. */
  with(tags) {
    if (!tags) return this;
    const { value, basis, except } = this;
    return new Reading(value, { tags: [...new Set([...(this.tags ?? []), ...tags])], basis, except });
  }
}

/** A value as fetchers may give it: with the tags that it depends on, and the position at which its origin read it. */
export function labelled(value, source) {
  return new Reading(value, source);
}

/** The reading that `given` means: a `Response`, whose headers name tags and basis; what `labelled` made; or any other value. */
export async function readingFrom(given) {
  if (given instanceof Reading) return given;
  return isResponse(given) ? new Reading(await bodyOf(given), sourceOf(given)) : new Reading(given);
}

/**
 * What a mutation touched, its position, and the position before its transaction, where its answer says so:
 * `{tags, position, basis}`.
 */
export function mutationFrom(given) {
  if (!isResponse(given)) {
    const { tags, position, basis } = given;
    return { tags: (tags ?? []).map(tagFrom), position: positionFrom(position), basis: positionFrom(basis) };
  }
  const { headers } = given;
  const position = (name) => positionFrom(headers.get(name));
  return { tags: listOf(headers.get(INVALIDATED)).map(tagFrom), position: position(MUTATION), basis: position(BASIS) };
}

/** Whether an error says that this user may not see the value. */
export function isRefusal(error) {
  const status = error?.status ?? error?.response?.status;
  return status === 401 || status === 403;
}

function sourceOf({ headers }) {
  const tags = listOf(headers.get(GROUPS));
  // An empty list is what a program writes that has lost its tags, not one that has none.
  return { tags: tags.length ? tags : undefined, basis: headers.get(BASIS) };
}

async function bodyOf(response) {
  if (!response.ok) {
    const { status, url } = response;
    const error = new TidingsError(`http_${status}`, `${url} answered ${status}`, status === 429 || status >= 500);
    throw Object.assign(error, { status });
  }
  return /\bjson\b/.test(response.headers.get('content-type')) ? response.json() : response.text();
}

function isResponse(given) {
  return typeof given?.headers?.get === 'function' && 'ok' in given;
}

/** The strings of a structured field (RFC 9651) that is a list of strings; their parameters mean nothing here. */
export function listOf(field) {
  if (!field?.trim()) return [];
  const member = /\s*"((?:[^"\\]|\\["\\])*)"(?:;[^,"]*(?:"(?:[^"\\]|\\.)*"[^,"]*)*)?\s*(,|$)/y;
  const strings = [];
  let comma = ',';
  while (comma) {
    const [, text, next] = member.exec(field) ?? fail(field);
    strings.push(text.replace(/\\(.)/g, '$1'));
    comma = next;
  }
  return strings;
}

function fail(field) {
  throw new TypeError(`not a list of strings: ${field}; give "tag", "tag" as RFC 9875 says`);
}
