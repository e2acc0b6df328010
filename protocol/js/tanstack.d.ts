import type { QueryClient, QueryFunctionContext, QueryKey, QueryObserverOptions } from '@tanstack/query-core';
import type { Cache, HowToRead, Labelled, Policy } from 'tidings';

type Given<T> = T | Labelled<T> | Response;

/** The options of a query, with the policies of the cache, and a `queryFn` that is told how to read. */
export type FreshOptions<T> = Omit<QueryObserverOptions<T, Error>, 'queryFn' | 'staleTime'> &
  Pick<Policy, 'tags' | 'ttl' | 'swr'> & {
    queryKey: QueryKey;
    queryFn: (context: Omit<QueryFunctionContext, 'signal'> & HowToRead) => Given<T> | Promise<Given<T>>;
  };

export interface Fresh {
  /** Options for `useQuery`, `QueryObserver`, `prefetchQuery` …; queries of several pages are not covered. */
  <T>(options: FreshOptions<T>): QueryObserverOptions<T, Error> & { queryKey: QueryKey };
  /** Lets go of the query client. */
  end(): void;
}

/** Makes queries whose values the cache reads and vouches for. */
export declare function tidingsQuery(cache: Cache, queryClient: QueryClient): Fresh;
