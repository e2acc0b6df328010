import type {
  DataTag,
  DefaultError,
  QueryClient,
  QueryFunction,
  QueryFunctionContext,
  QueryKey,
  QueryObserverOptions,
  SkipToken,
} from '@tanstack/query-core';
import type { Cache, HowToRead, Labelled, Policy } from 'tidings';

/** What a query's function is told: as by the library, and how to read. */
export type FreshContext<TKey extends QueryKey = QueryKey> = Omit<QueryFunctionContext<TKey>, 'signal'> & HowToRead;

/** Reads a value: gives it, with or without its tags and basis. */
export type FreshFunction<T, TKey extends QueryKey = QueryKey> = (
  context: FreshContext<TKey>,
) => T | Labelled<T> | Promise<T | Labelled<T>>;

/** Reads a value: gives the `Response` that has it as its JSON body, and tags and basis in its headers. */
export type FreshResponseFunction<TKey extends QueryKey = QueryKey> = (
  context: FreshContext<TKey>,
) => Response | Promise<Response>;

/** The options of a query but for its function, with the policies of the cache. */
export type FreshOptions<T, TError = DefaultError, TData = T, TKey extends QueryKey = QueryKey> = Omit<
  QueryObserverOptions<T, TError, TData, T, TKey>,
  'queryFn' | 'staleTime' | 'queryKey'
> &
  Pick<Policy, 'tags' | 'ttl' | 'swr'> & { queryKey: TKey };

/** Options for the library: the key knows the data's type, and the function is one where one was given. */
export type FreshQuery<T, TError, TData, TKey extends QueryKey, TFunction> = Omit<
  QueryObserverOptions<T, TError, TData, T, TKey>,
  'queryFn' | 'queryKey'
> & { queryKey: DataTag<TKey, T> } & TFunction;

export interface Fresh {
  /** Options for `useQuery`, `useSuspenseQuery`, `QueryObserver`, `prefetchQuery` …; queries of several pages are not covered. */
  <T = unknown, TError = DefaultError, TData = T, const TKey extends QueryKey = QueryKey>(
    options: FreshOptions<T, TError, TData, TKey> & { queryFn: FreshResponseFunction<TKey> },
  ): FreshQuery<T, TError, TData, TKey, { queryFn: QueryFunction<T, TKey> }>;
  <T, TError = DefaultError, TData = T, const TKey extends QueryKey = QueryKey>(
    options: FreshOptions<T, TError, TData, TKey> & { queryFn: FreshFunction<T, TKey> },
  ): FreshQuery<T, TError, TData, TKey, { queryFn: QueryFunction<T, TKey> }>;
  /** A query that is not read, or not always. */
  <T = unknown, TError = DefaultError, TData = T, const TKey extends QueryKey = QueryKey>(
    options: FreshOptions<T, TError, TData, TKey> & { queryFn: FreshFunction<T, TKey> | SkipToken },
  ): FreshQuery<T, TError, TData, TKey, { queryFn: QueryFunction<T, TKey> | SkipToken }>;
  /** A query that is read by the query client's default function. */
  <T = unknown, TError = DefaultError, TData = T, const TKey extends QueryKey = QueryKey>(
    options: FreshOptions<T, TError, TData, TKey> & { queryFn?: undefined },
  ): FreshQuery<T, TError, TData, TKey, { queryFn: QueryFunction<T, TKey> }>;
  /** Lets go of the query client. */
  end(): void;
}

/** Makes queries whose values the cache reads and vouches for. */
export declare function tidingsQuery(cache: Cache, queryClient: QueryClient): Fresh;
