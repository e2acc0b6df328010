/** What a fetcher gave: a value, the tags that it depends on, and the basis that came with it. */
import { TidingsError } from './errors.js';
import { positionFrom } from './position.js';
import { tagFrom } from './tag.js';

/** The headers of RFC 9875, and the one for the position that an answer reflects. */
const GROUPS = 'cache-groups';
const INVALIDATED = 'cache-group-invalidation';
const BASIS = 'tidings-basis';

/** A parsed reading has its own class, so that no value of a program is taken for one. */
export class Reading {
  constructor(value, { tags = [], basis } = {}) {
    this.value = value;
    this.tags = tags.map(tagFrom);
    this.basis = positionFrom(basis);
  }

  /** The same, depending on `tags` too. */
  with(tags) {
    return new Reading(this.value, { tags: [...new Set([...this.tags, ...tags])], basis: this.basis });
  }
}

/**
 * The reading that `given` means: a `Response`, whose headers name tags and basis; `{value, tags?, basis?}` with one of the
 * two; or any other value, which says nothing about itself.
 */
export async function readingFrom(given) {
  if (given instanceof Reading) return given;
  if (isResponse(given)) return new Reading(await bodyOf(given), sourceOf(given));
  if (isLabelled(given)) return new Reading(given.value, given);
  return new Reading(given);
}

/** What a mutation touched, and its position, where its answer says so: `{tags, position}`. */
export function mutationFrom(given) {
  if (!isResponse(given)) return { tags: (given.tags ?? []).map(tagFrom), position: positionFrom(given.position) };
  const { headers } = given;
  return { tags: listOf(headers.get(INVALIDATED)).map(tagFrom), position: positionFrom(headers.get(BASIS)) };
}

function sourceOf({ headers }) {
  return { tags: listOf(headers.get(GROUPS)), basis: headers.get(BASIS) };
}

async function bodyOf(response) {
  if (!response.ok) {
    const { status, url } = response;
    throw new TidingsError(`http_${status}`, `${url} answered ${status}`, status === 429 || status >= 500);
  }
  return /\bjson\b/.test(response.headers.get('content-type')) ? response.json() : response.text();
}

function isResponse(given) {
  return typeof given?.headers?.get === 'function' && 'ok' in given;
}

function isLabelled(given) {
  if (given === null || typeof given !== 'object' || !('value' in given)) return false;
  const names = Object.keys(given).filter((name) => name !== 'value');
  return names.length > 0 && names.every((name) => name === 'tags' || name === 'basis');
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
