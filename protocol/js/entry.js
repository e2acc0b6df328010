/** What a cache holds under one key: the value, how it is read, and who is shown it. */
export class Entry {
  value = undefined;
  /** Whether there is a value; `undefined` may be one. */
  has = false;
  /** Whether the books speak of this very value. */
  tracked = false;
  tags = [];
  /** When the read of the value began, and when the last one did, on the client's clock. */
  readAt = -Infinity;
  triedAt = -Infinity;
  /** Reads in a row that gave nothing fresh, and what the last one threw. */
  failures = 0;
  error = undefined;
  fetcher = null;
  policy = {};
  reader = null;
  /** The next read, where it waits for its time: {soon, timer}. */
  plan = null;
  /** How long reads of what became stale are spread over, in ms. */
  spreadMs = 0;
  /** {listener, refetch, wanted, view} */
  listeners = new Set();

  constructor(key) {
    this.key = key;
  }

  /** One who sees the value and wants it fresh; undefined where nobody does. */
  get wanting() {
    return [...this.listeners].find(({ wanted }) => wanted());
  }

  /** Shows `view` to those who saw another one last; `call(listener, view)` calls one. */
  show(view, call) {
    for (const listening of this.listeners) {
      const { view: last } = listening;
      const same = last && last.value === view.value && last.state === view.state && last.error === view.error;
      if (same || (!last && !this.has)) continue;
      listening.view = view;
      call(listening.listener, view);
    }
  }
}
