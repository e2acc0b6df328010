/** A place in a channel. Epochs are opaque: only equality means anything. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** A publication as listeners get it. */
export interface Message<T = unknown> {
  readonly channel: string;
  /** JSON as it was published, or a `Uint8Array` where bytes were. */
  readonly data: T;
  /** 1 for a channel's first; undefined on a channel without history. */
  readonly offset?: number;
  readonly epoch?: string;
  /** When it was published, in ms since 1970. */
  readonly time?: number;
  readonly id?: string;
  readonly key?: string;
  readonly gap?: undefined;
}

export type GapReason = 'trimmed' | 'epoch' | 'lost' | 'overflow' | 'cursor';

/** Something is lost; the next message follows `position`, which is null where nobody knows it. */
export interface Gap {
  readonly reason: GapReason | (string & {});
  readonly position: Position | null;
}

/** What stands in a stream where messages are missing. */
export interface GapItem {
  readonly channel: string;
  readonly gap: Gap;
}

export type State = 'connecting' | 'live' | 'catching-up' | 'degraded' | 'offline';

/** The body of the server's `hello`. */
export interface Session {
  readonly session: string;
  readonly ping_interval_ms: number;
  readonly timeout_ms: number;
  readonly batch_ms: number;
  readonly lease_ms: number;
  readonly message_bytes_max: number;
  readonly [field: string]: unknown;
}

export interface Published {
  readonly position: Position | null;
  readonly ack: string;
}

export interface History<T = unknown> {
  readonly messages: Message<T>[];
  readonly position: Position | null;
  /** Whether there is more after the last message. */
  readonly more: boolean;
  /** Why the messages do not continue `since`; null where they do, or none was given. */
  readonly gap: GapReason | (string & {}) | null;
}

/** An error that says what a program can do about it. */
export declare class TidingsError extends Error {
  constructor(code: string, message: string, retryable?: boolean, cause?: unknown);
  /**
   * The server's slug, or one of the client's own: `not_connected`, `outcome_unknown`, `connection_failed` (said of the first
   * attempt of several), `token_failed`, `bad_frame`, `closed`, and `close_` with a number for a close without a word; of caches
   * `no_tags`, `not_read`, `read_timed_out`, `persist_failed`.
   */
  readonly code: string;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** The channel that ended, where this is why. */
  readonly channel?: string;
  /** The tags that are not watched, where this is why values are not fresh. */
  readonly tags?: readonly string[];
  /** The key of the value that names no tags. */
  readonly key?: string;
}

/** Gives a token, or null where there is none. */
export type TokenFunction = () => string | null | Promise<string | null>;

export interface Options {
  /**
   * A JWT or an API key. A function is asked before the first connection, when 80 to 90 % of its token's life are over, and
   * after that token was refused; null is no token. Whatever it throws, or gives that is no token, is an `error` event
   * `token_failed`, and it is asked again later.
   */
  token?: string | TokenFunction;
  /** The WebSocket class; the global one by default. */
  WebSocket?: new (url: string, protocols?: string[]) => unknown;
}

/** One connection that is subscribed to a channel. */
export interface Member {
  /** Empty for an anonymous one. */
  readonly user: string;
  /** What its `hello` called it; `Session.session` for one's own. */
  readonly session: string;
  /** When it subscribed, in ms since 1970. */
  readonly since: number;
}

export interface PresenceEvents {
  join: CustomEvent<Member>;
  leave: CustomEvent<Member>;
  /** Nothing more comes: it was closed, or the server refused it, and why. */
  end: CustomEvent<TidingsError | null>;
}

/** Who is in a channel, kept up to date. */
export interface Presence extends EventTarget {
  members(): Member[];
  /** How many there are; more than `members()` has where the server's list is too short for all. */
  readonly count: number;
  close(): void;
  addEventListener<K extends keyof PresenceEvents>(
    type: K,
    listener: (event: PresenceEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface SubscribeOptions {
  /** Everything after this position; counts for the first listener of a channel. */
  since?: Position | string | null;
  onGap?: (gap: Gap) => void;
  /** Ends the subscription when aborted. */
  signal?: AbortSignal;
  /**
   * For a channel that the connection's token does not grant: a token for this one channel. A function is asked before each
   * subscribe, and again when its token has expired. Counts for the first listener of a channel.
   */
  token?: ChannelToken;
}

/** A token for one channel, or what gives one. */
export type ChannelToken = string | TokenFunction;

/** A value of a cache, and whether it is known to be right. */
export interface View<T = unknown> {
  readonly value: T;
  /** 'fresh': it lacks no mutation that was acknowledged more than a lease ago. 'stale': it does, or nobody knows. */
  readonly state: 'fresh' | 'stale';
  /** What the last read threw. */
  readonly error?: unknown;
}

/** What a fetcher is told; all of it but `basis` can be handed to `fetch`. */
export interface HowToRead {
  /** Where the mutation log stood before the read; null where nobody can tell. */
  readonly basis: Position | null;
  /** Aborted when a mutation came between, and the read begins again. */
  readonly signal: AbortSignal;
  readonly cache: 'no-cache';
  /** `Tidings-Min`, for an origin that can wait for its replica; a page of another origin has to be allowed to send it. */
  readonly headers: Record<string, string>;
}

/** What a value depends on, and where the log stood when it was read. */
export interface Source {
  /** None on purpose is a value that never changes; where they are not said it is never fresh. */
  readonly tags?: readonly string[] | null;
  /** The position before the value was read, or before the transaction began whose answer shows it. */
  readonly basis?: Position | string | null;
  /** The position of the mutation whose answer shows the value. */
  readonly except?: Position | string | null;
}

declare const labelledValue: unique symbol;

/** A value with its source: what `labelled` made. */
export interface Labelled<T> {
  readonly [labelledValue]: T;
}

/** A value as a fetcher may give it, with what it depends on. */
export declare function labelled<T>(value: T, source: Source): Labelled<T>;

/** Reads a value: gives it, with or without its tags and basis. */
export type Fetcher<T> = (how: HowToRead) => T | Labelled<T> | Promise<T | Labelled<T>>;

/** Reads a value: gives the `Response` that has it as its JSON body, and tags and basis in its headers. */
export type ResponseFetcher = (how: HowToRead) => Response | Promise<Response>;

export interface Policy {
  /** What the value depends on, beside the tags that it brings. */
  readonly tags?: readonly string[];
  /** A limit on top of the rule: after so many ms the value is not fresh, whatever is known. */
  readonly ttl?: number;
  /** Whether a stale value is given at once, and read again behind it. */
  readonly swr?: boolean;
  /** Whether to wait all the same, where the cache's default is `swr`. */
  readonly strict?: boolean;
  /** Whether to read in any case, by a read that begins from now on. */
  readonly force?: boolean;
  /** After so many ms a read has failed; 30,000 by default. */
  readonly timeout?: number;
}

/** A value that is kept over a restart. */
export interface Kept {
  readonly value: unknown;
  readonly tags: readonly string[];
  readonly basis: Position;
  readonly except?: Position;
}

/** Keeps values over a restart. What it throws or rejects with is an `error` event, `persist_failed`. */
export interface Persist {
  load(): Iterable<readonly [string, Kept]> | Promise<Iterable<readonly [string, Kept]>>;
  /** null for a value that is gone. */
  save(key: string, entry: Kept | null): unknown;
}

export interface CacheOptions {
  /** The mutation log; 'default' is. */
  ns?: string;
  /** As many values are held; 10,000 by default. */
  maxEntries?: number;
  /** Without a lease a value is read again this often at most, in ms; 30,000 by default. */
  degradedTtl?: number;
  ttl?: number;
  swr?: boolean;
  persist?: Persist;
}

export interface Listening {
  /** Whether the value is read again when it becomes stale; a function is called instead of the fetcher. */
  refetch?: boolean | (() => void);
  /** Whether somebody looks at it just now. */
  wanted?: () => boolean;
}

/** A cache that says of every value whether it is fresh. */
export interface Cache {
  /** What a policy does not say stays as the last `get` of the key said it. Rejects with what `fetcher` throws. */
  get<T = unknown>(key: string, fetcher: ResponseFetcher, policy?: Policy): Promise<View<T>>;
  get<T>(key: string, fetcher: Fetcher<T>, policy?: Policy): Promise<View<T>>;
  /** What is held now; undefined where nothing is. */
  peek<T = unknown>(key: string): View<T> | undefined;
  /** `value` is undefined where it may not be seen any more. */
  subscribe<T = unknown>(key: string, listener: (view: View<T | undefined>) => void, how?: Listening): () => void;
  /** Shows a value that no fetcher read. True if it is fresh as soon as that is proven; else it is stale, and read again. */
  set(key: string, value: unknown, source: Source): boolean;
  /**
   * A mutation of this program's own was acknowledged; a `Response` says in its headers what it touched. Gives what `set` needs to show
   * what the answer shows.
   */
  mutated(answer: Response | { tags: readonly string[]; position?: Position | string | null; basis?: Position | string | null }): {
    readonly basis?: Position;
    readonly except?: Position;
  };
  forget(key: string): void;
}

export interface Events {
  state: CustomEvent<State>;
  gap: CustomEvent<Gap & { readonly channel: string }>;
  /** The server has lost a part since this time, in ms since 1970; the connection stays. */
  degraded: CustomEvent<{ readonly component: string; readonly since: number }>;
  /** The part is back. A new connection begins without it being said: `state` always holds. */
  restored: CustomEvent<{ readonly component: string }>;
  /** A `TidingsError`, or whatever a callback threw. */
  error: CustomEvent<unknown>;
}

export interface Tidings extends EventTarget {
  readonly state: State;
  readonly session: Session | null;
  /** Calls `fn` for every publication, in order; returns the function that ends it. */
  subscribe<T = unknown>(channel: string, fn: (message: Message<T>) => void, options?: SubscribeOptions): () => void;
  /** Ends on abort and on `close()`; throws a `TidingsError` when the server refuses or removes the channel. */
  stream<T = unknown>(
    channel: string,
    options?: { since?: Position | string | null; signal?: AbortSignal; token?: ChannelToken },
  ): AsyncIterableIterator<Message<T> | GapItem>;
  /** Subscribes to the channel, and hears who comes and goes. */
  presence(channel: string, options?: { signal?: AbortSignal; token?: ChannelToken }): Presence;
  /** Rejects with the server's error, `not_connected` (surely not sent) or `outcome_unknown` (sent, never answered). */
  publish(channel: string, data: unknown, options?: { key?: string; idempotencyKey?: string }): Promise<Published>;
  history<T = unknown>(channel: string, options?: { since?: Position | string | null; limit?: number }): Promise<History<T>>;
  /** The position up to which messages were handed out; null where there is none. */
  position(channel: string): Position | null;
  /** The cache of what depends on a mutation log; one for each, `options` count for the first time. */
  cache(options?: CacheOptions): Cache;
  /** Connects anew at once, with a token that is asked for anew; also where the server has ended the connection for good. */
  reconnect(): void;
  close(): void;
  addEventListener<K extends keyof Events>(
    type: K,
    listener: (event: Events[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Connects to the tidings server at `url`: http, https, ws or wss, with or without a path. */
export declare function tidings(url: string | URL, options?: Options): Tidings;
