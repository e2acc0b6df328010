/**
 * An error that says what a program can do about it.
 *
 * `code` is a slug: the server's (`channel_not_allowed`, `rate_limited`, …) or one of the client's own: `not_connected`,
 * `connection_failed`, `token_failed`, `bad_frame`, `closed`; of caches `no_tags`, `not_read`, `read_timed_out`, `persist_failed`. `retryable` is true where the same call may succeed later.
 */
export class TidingsError extends Error {
  /** The channel that ended, the tags that are not watched, or the key of the value, where this is why. */
  channel;
  tags;
  key;

  constructor(code, message, retryable = false, cause = undefined) {
    super(message, { cause });
    this.name = 'TidingsError';
    this.code = code;
    this.retryable = retryable;
  }

  /** The error that an `error` frame's body describes. */
  static from({ code, message, retryable }) {
    return new TidingsError(code, message ?? code, retryable === true);
  }
}

/** The error of a value of which nobody said what it depends on. */
export function noTags(key) {
  const message = `nobody said what the value of ${key} depends on, so it is never fresh: return the Response, labelled(…), or set the policy tags`;
  return Object.assign(new TidingsError('no_tags', message), { key });
}
