/** What a client asks of a log, in commands of a size that every server takes. */

/** The most tags of one command, as of one that takes tags back. */
const TAGS_MAX = 1000;

/** The most bytes of the tags of one command: every server takes 64 KiB, and groups and frame need some of them. */
const BYTES_MAX = 40 * 1024;

/** What a group of its own costs beside its tags: two positions with the longest epochs. */
const GROUP_BYTES = 256;

/** What tells a question about a tag from others about the same tag. */
export function questionKey({ since, except }) {
  return except ? `${since.epoch}.${since.offset} ${except.epoch}.${except.offset}` : `${since.epoch}.${since.offset}`;
}

/**
 * The groups of as many commands as it takes, for `wanted`: `{since, except, tag}` each. An answer names a stale tag without saying
 * as of which position, so no command names a tag twice.
 */
export function commands(wanted) {
  const questions = new Map(wanted.map((question) => [`${questionKey(question)} ${question.tag}`, question]));
  const named = new Map();
  const rounds = [];
  for (const question of [...questions.values()].sort(inOrder)) {
    const round = named.get(question.tag) ?? 0;
    named.set(question.tag, round + 1);
    (rounds[round] ??= []).push(question);
  }
  return rounds.flatMap((round) => chunks(groups(round)));
}

/** The tags of as many commands as it takes to take them back. */
export function parts(tags) {
  return chunks([{ tags }]).map((groups) => groups.flatMap((group) => group.tags));
}

function inOrder(one, other) {
  return inOrderOf(one.since, other.since) || inOrderOf(one.except, other.except) || (one.tag < other.tag ? -1 : 1);
}

/** None comes before any position. */
function inOrderOf(one, other) {
  if (!one || !other) return Boolean(one) - Boolean(other);
  if (one.epoch !== other.epoch) return one.epoch < other.epoch ? -1 : 1;
  return one.offset - other.offset;
}

/** Tags that are known as of the same position are one group. */
function groups(questions) {
  const found = [];
  for (const { since, except, tag } of questions) {
    const last = found.at(-1);
    if (last && questionKey(last) === questionKey({ since, except })) last.tags.push(tag);
    else found.push(except ? { since, except, tags: [tag] } : { since, tags: [tag] });
  }
  return found;
}

/** Groups, cut where a command would be too large. */
function chunks(groups) {
  const found = [];
  let [left, bytes] = [0, 0];
  for (const { tags, ...known } of groups) {
    let group = null;
    for (const tag of tags) {
      // In quotes and with what follows; a backslash counts twice.
      const size = JSON.stringify(tag).length + 1;
      if (!left || bytes < size + (group ? 0 : GROUP_BYTES)) {
        found.push([]);
        [left, bytes, group] = [TAGS_MAX, BYTES_MAX, null];
      }
      if (!group) {
        group = { ...known, tags: [] };
        found.at(-1).push(group);
        bytes -= GROUP_BYTES;
      }
      group.tags.push(tag);
      [left, bytes] = [left - 1, bytes - size];
    }
  }
  return found;
}
