/**
 * TanStack Query on top of a cache that knows what is fresh. The library keeps its queries and observers; the cache reads for
 * them, again where a mutation came between, and the library holds nothing as fresh that the cache does not vouch for.
 *
 *     const fresh = tidingsQuery(t.cache(), queryClient);
 *     useQuery(fresh({ queryKey: ['tickets'], queryFn: ({ signal, cache }) => fetch('/api/tickets', { signal, cache }) }));
 *
 * By itself the library forgets an invalidation that comes while a query is fetched for the first time, or while one is fetched
 * that nobody looks at. It needs `@tanstack/query-core` 5, of any framework.
 */

/** query client → cache → the function that makes options: whoever asks with every render gets the same one. */
const made = new WeakMap();

/** A function that makes options of queries; its `end()` lets go of the query client. `cache` is one of `tidings().cache()`. */
export function tidingsQuery(cache, queryClient) {
  const ofClient = made.get(queryClient) ?? new WeakMap();
  made.set(queryClient, ofClient);
  if (!ofClient.has(cache)) ofClient.set(cache, makeFresh(cache, queryClient, () => ofClient.delete(cache)));
  return ofClient.get(cache);
}

function makeFresh(cache, queryClient, ended) {
  const queries = new Queries(cache, queryClient);
  const fresh = (options) => queries.options(options);
  fresh.end = () => (queries.end(), ended());
  return fresh;
}

class Queries {
  #cache;
  #client;
  /** hash → {value, off, reads}: what the library was given last, the end of listening, and how many of its fetches are under way. */
  #held = new Map();
  #off;

  constructor(cache, client) {
    this.#cache = cache;
    this.#client = client;
    this.#off = client.getQueryCache().subscribe((event) => this.#handle(event));
  }

  /** `tags`, `ttl` and `swr` are policies of `cache.get`; everything else is the library's. */
  options({ tags, ttl, swr, queryFn, ...options }) {
    return {
      ...options,
      meta: { ...options.meta, tags },
      staleTime: (query) => (this.#cache.peek(query.queryHash)?.state === 'fresh' ? Infinity : 0),
      // What is no function is the library's word for a query that is not read.
      queryFn: queryFn && typeof queryFn !== 'function' ? queryFn : (context) => this.#fetch(queryFn, context, { tags, ttl, swr }),
    };
  }

  end() {
    this.#off();
    for (const { off } of this.#held.values()) off();
    this.#held.clear();
  }

  async #fetch(queryFn, { queryKey, meta, client }, policy) {
    const query = this.#client.getQueryCache().find({ queryKey, exact: true });
    const { queryHash, state } = query;
    // Without its signal: whoever stops looking does not end a read that others may wait for.
    const own = queryFn ?? this.#client.defaultQueryOptions({ queryKey }).queryFn;
    if (typeof own !== 'function') throw new TypeError(`no queryFn, and no default one: ${queryHash}`);
    const read = (how) => own({ queryKey, meta, client, ...how });
    const held = this.#hold(query);
    // The library joins fetches by itself: who begins one beside another, or although the value is fresh, knows that it was changed.
    const isFresh = state.data !== undefined && this.#cache.peek(queryHash)?.state === 'fresh';
    const force = held.reads > 0 || isFresh;
    held.reads++;
    try {
      const { value } = await this.#cache.get(queryHash, read, { ...policy, force });
      held.value = value;
      return value;
    } finally {
      held.reads--;
    }
  }

  #hold(query) {
    const { queryKey, queryHash } = query;
    if (this.#held.has(queryHash)) return this.#held.get(queryHash);
    const exactly = { queryKey, exact: true };
    const held = { value: undefined, reads: 0 };
    this.#held.set(queryHash, held);
    held.off = this.#cache.subscribe(queryHash, () => this.#mirror(queryHash), {
      wanted: () => query.isActive(),
      refetch: () => this.#client.refetchQueries(exactly).catch(() => {}),
    });
    return held;
  }

  #handle({ type, query, action }) {
    if (!this.#held.has(query.queryHash)) return;
    if (type === 'removed') this.#release(query.queryHash);
    // An invalidation that came while the value was on its way to the library is made good for.
    else if (type === 'updated' && action.type === 'success') this.#mirror(query.queryHash, action.manual);
  }

  #release(queryHash) {
    this.#held.get(queryHash).off();
    this.#held.delete(queryHash);
    this.#cache.forget(queryHash);
  }

  /** Makes the library hold what the cache shows; a value that a program set by hand is one that nobody vouches for. */
  #mirror(queryHash, isManual = false) {
    const query = this.#client.getQueryCache().get(queryHash);
    const held = this.#held.get(queryHash);
    if (!query || query.state.data === undefined || held.isSetting) return;
    const view = this.#cache.peek(queryHash);
    // What may not be seen any more.
    if (!view) return void this.#client.resetQueries({ queryKey: query.queryKey, exact: true }).catch(() => {});
    if (view.value !== held.value && query.state.fetchStatus === 'idle') {
      Object.assign(held, { value: view.value, isSetting: true });
      query.setData(view.value, { manual: true });
      held.isSetting = false;
      isManual = false;
    }
    const isInvalidated = isManual || view.state !== 'fresh' || view.value !== held.value;
    if (query.state.isInvalidated !== isInvalidated) query.setState({ isInvalidated });
  }
}
