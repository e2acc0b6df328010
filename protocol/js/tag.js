/** Tags name what cached values depend on; one that ends in the segment `*` stands for itself without it, and all below. */

const BYTES_MAX = 256;
const SEGMENTS_MAX = 16;

/** `text`, if it is a tag; throws a TypeError that says what a tag is. */
export function tagFrom(text) {
  const legal = typeof text === 'string' && text.length <= BYTES_MAX && /^(\*|[!#-)+\-.-~]+(:\*)?)$/.test(text);
  if (legal && text.split(':').length <= SEGMENTS_MAX) return text;
  throw new TypeError(
    `not a tag: ${JSON.stringify(text)}; a tag is 1 to ${BYTES_MAX} of printable ASCII without space, " and comma, in at most ` +
      `${SEGMENTS_MAX} segments between colons, of which only the last may be *`,
  );
}

/** Whether everything that `other` stands for is in `tag`: `a:*` covers `a`, `a:b` and `a:b:*`. */
export function covers(tag, other) {
  if (tag === other || tag === '*') return true;
  return tag.endsWith(':*') && (other + ':').startsWith(tag.slice(0, -1));
}

/** Whether a mutation of one touches what has the other. */
export function overlap(one, other) {
  return covers(one, other) || covers(other, one);
}
