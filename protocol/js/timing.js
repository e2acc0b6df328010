/** The longest time that a timer of a browser can wait for; it fires at once where more is asked for. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Calls `then` after `ms`, or as late as a timer can; gives the timer. */
export function later(timers, then, ms) {
  return timers.setTimeout(then, Math.min(ms, TIMER_MAX_MS));
}
