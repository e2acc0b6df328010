/** What a client asks of a log, in commands of a size that the server takes. */

/** The most tags of one command. */
const TAGS_MAX = 1000;

/** What is a map key for a tag as of a position. */
export function pairKey({ epoch, offset }, tag) {
  return `${epoch}.${offset} ${tag}`;
}

/**
 * The groups of as many commands as it takes, for `wanted`: `[since, tag]` each. An answer names a stale tag without saying as
 * of which position, so no command names a tag twice.
 */
export function commands(wanted) {
  const pairs = new Map(wanted.map((pair) => [pairKey(...pair), pair]));
  const named = new Map();
  const rounds = [];
  for (const pair of [...pairs.values()].sort(inOrder)) {
    const round = named.get(pair[1]) ?? 0;
    named.set(pair[1], round + 1);
    (rounds[round] ??= []).push(pair);
  }
  return rounds.flatMap(chunks).map(groups);
}

function inOrder([one, tag], [other, otherTag]) {
  if (one.epoch !== other.epoch) return one.epoch < other.epoch ? -1 : 1;
  return one.offset - other.offset || (tag < otherTag ? -1 : 1);
}

function chunks(round) {
  const count = Math.ceil(round.length / TAGS_MAX);
  return Array.from({ length: count }, (_, i) => round.slice(i * TAGS_MAX, (i + 1) * TAGS_MAX));
}

/** Tags that are known as of the same position are one group. */
function groups(pairs) {
  const found = [];
  for (const [since, tag] of pairs) {
    const last = found.at(-1);
    if (last && last.since.epoch === since.epoch && last.since.offset === since.offset) last.tags.push(tag);
    else found.push({ since, tags: [tag] });
  }
  return found;
}
