/**
 * An error that says what a program can do about it.
 *
 * `code` is a slug: the server's (`channel_not_allowed`, `rate_limited`, …) or one of the client's own: `not_connected`,
 * `connection_failed`, `token_failed`, `bad_frame`, `closed`. `retryable` is true where the same call may succeed later.
 */
export class TidingsError extends Error {
  /** The channel that ended, where this is why. */
  channel;

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
