/**
 * A place in a channel: `{epoch, offset}`, or `epoch.offset` as text. Epochs are opaque; only equality means anything.
 */

/** The position that `value` means: an object, its text form, or nothing (null). Throws a TypeError for anything else. */
export function positionFrom(value) {
  if (value === undefined || value === null) return null;
  const { epoch, offset } = typeof value === 'string' ? fromText(value) : value;
  if (typeof epoch === 'string' && epoch && Number.isSafeInteger(offset) && offset >= 0) return { epoch, offset };
  throw new TypeError(`not a position: ${JSON.stringify(value)}; give {epoch, offset} or "epoch.offset"`);
}

/** Whether two positions are the same place; null equals null alone. */
export function samePosition(a, b) {
  return a === b || (a?.epoch === b?.epoch && a?.offset === b?.offset);
}

/** Whether one is known to be before the other: both are of the same epoch. */
export function isBefore(one, other) {
  return Boolean(one && other) && one.epoch === other.epoch && one.offset < other.offset;
}

function fromText(text) {
  // An offset holds no dot, an epoch may: the last dot divides them.
  const [, epoch, digits] = /^(.+)\.(\d+)$/.exec(text) ?? [];
  return { epoch, offset: Number(digits) };
}
