/** The first delay is below 300 ms: a restarted server is back in the blink of an eye, or it is not. */
const FIRST_MS = 300;

/** 20 s leaves everybody time to return within 30 s of a recovery. */
const MOST_MS = 20_000;

/**
 * Milliseconds to wait before attempt `n` (0 for the first): rand(0, min(20 s, 300 ms * 2^n)).
 *
 * The jitter is full, because clients that lost the same server must not return together.
 * `random` gives a number in [0, 1).
 */
export function backoff(n, random = Math.random) {
  return random() * Math.min(MOST_MS, FIRST_MS * 2 ** n);
}

/** Where only a person can help: from 15 to 30 s for the first attempt (0), and up to 10 minutes later on. */
export function longBackoff(n, random = Math.random) {
  return (0.5 + random() / 2) * Math.min(600_000, 30_000 * 2 ** n);
}
