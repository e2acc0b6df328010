//! `[limits]`: every bound of the process, and what happens at it.
//!
//! The first line of a limit's doc says what is counted, the rest what happens at the limit: `Limits::table` gives both.

use std::time::Duration;

use tidings_protocol::COMMAND_BYTES_MIN;

use super::kind::{Count, Size};
use super::section::section;

section! {
    /// Every queue, map, loop and body has its bound here.
    pub struct Limits: Single "limits" {
        /// WebSockets and event streams at once, on this instance.
        /// Further ones are turned away: with 503 overloaded and Retry-After, a stream with 200 and a retry of its own.
        connections_max: usize as Count = 20_000 in 1 to 10_000_000;
        /// New WebSockets and event streams per second, on this instance; dev mode does not count them.
        /// Above it, and above the burst, they are turned away as at connections_max.
        connections_per_second: usize as Count = 500 in 1 to 1_000_000;
        /// New WebSockets and event streams that may come at once after a quiet time.
        /// Further ones are admitted at connections_per_second.
        connections_burst: usize as Count = 1_000 in 1 to 1_000_000;
        /// Bytes of memory that this process may use. 0: what its cgroup allows, or what the machine has.
        /// From 85 % on new connections are turned away as at connections_max, from 95 % on the slowest readers are closed with 4408 until it is less.
        memory_bytes: usize as Size = 0 in 0 to "1024TiB";
        /// Bytes of request bodies that came and whose requests are not answered, on this instance; at least twice the largest body.
        /// One caller holds as many as are free: a request for more gets 503 overloaded, and nothing of it is done.
        bodies_bytes: usize as Size = "64MiB" in "1MiB" to "64GiB";
        /// Bytes of answers that are not read, on this instance: pages of history of 16 KiB or more, over HTTP all answers of that size.
        /// One caller holds as many as are free: a further GET gets 503 overloaded, a POST that is done 504 outcome_unknown, a command the error overloaded; a subscription reads on later.
        answers_bytes: usize as Size = "64MiB" in "1MiB" to "64GiB";
        /// WebSockets and event streams of one address at once (of an IPv6 network of 64 bits). 0: any number, for behind a proxy all have its address.
        /// Further ones get 429 limit_reached, a stream 200 and a retry of its own.
        address_connections_max: usize as Count = 0 in 0 to 10_000_000;
        /// New WebSockets and event streams of one address per second. 0: any number.
        /// Above it 429 rate_limited, a stream 200 and a retry of its own.
        address_connections_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Commands and requests of one address per second, of those who are anonymous. 0: any number.
        /// As at user_commands_per_second.
        address_commands_per_second: usize as Count = 2_000 [dev 0] in 0 to 1_000_000;
        /// Publications of one address per second, of those who are anonymous. 0: any number.
        /// As at user_publishes_per_second.
        address_publishes_per_second: usize as Count = 500 [dev 0] in 0 to 1_000_000;
        /// Bytes of data in the publications of one address per second, of those who are anonymous. 0: any number.
        /// As at tenant_bytes_per_second.
        address_bytes_per_second: usize as Size = "4MiB" [dev 0] in 0 to "64MiB";
        /// Mutations of one address per second, of those who are anonymous. 0: any number.
        /// As at user_mutations_per_second.
        address_mutations_per_second: usize as Count = 500 [dev 0] in 0 to 1_000_000;
        /// Tokens and API keys that did not hold, of one address per second. 0: any number.
        /// Above it further ones get 429 rate_limited, and only tokens that held a short while ago and API keys are looked into.
        address_failed_credentials_per_second: usize as Count = 100 [dev 0] in 0 to 1_000_000;
        /// WebSockets and event streams of one user of one tenant at once; anonymous ones do not count. 0: any number.
        /// Further ones get 429 limit_reached; after `connect` the error, and close 4429 rate_limited.
        user_connections_max: usize as Count = 1_000 in 0 to 10_000_000;
        /// WebSockets and event streams of one tenant at once. 0: any number.
        /// As at user_connections_max.
        tenant_connections_max: usize as Count = 0 in 0 to 10_000_000;
        /// New WebSockets and event streams of one tenant per second. 0: any number.
        /// Above it 429 rate_limited; after `connect` the error, and close 4429 rate_limited.
        tenant_connections_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Commands of one connection per second, and other frames. 0: any number.
        /// Above it the error rate_limited; whoever floods on, so that 256 more are refused than granted, is closed with 4429 rate_limited.
        connection_commands_per_second: usize as Count = 100 [dev 0] in 0 to 1_000_000;
        /// Bytes that one WebSocket sends per second. 0: any number.
        /// Above it nothing more is read from it until they are within the rate.
        connection_bytes_per_second: usize as Size = "1MiB" [dev 0] in 0 to "64MiB";
        /// Commands and requests of one user of one tenant per second; anonymous ones do not count. 0: any number.
        /// Above it 429 rate_limited, on a socket as at connection_commands_per_second.
        user_commands_per_second: usize as Count = 500 [dev 0] in 0 to 1_000_000;
        /// Publications of one user of one tenant per second. 0: any number.
        /// Above it 429 rate_limited, on a socket the error: nothing was stored.
        user_publishes_per_second: usize as Count = 100 [dev 0] in 0 to 1_000_000;
        /// Mutations of one user of one tenant per second. 0: any number.
        /// Above it 429 rate_limited: nothing was stored.
        user_mutations_per_second: usize as Count = 100 [dev 0] in 0 to 1_000_000;
        /// Commands and requests of one tenant per second. 0: any number.
        /// As at user_commands_per_second.
        tenant_commands_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Publications of one tenant per second. 0: any number.
        /// As at user_publishes_per_second.
        tenant_publishes_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Bytes of data in the publications of one tenant per second. 0: any number.
        /// As at user_publishes_per_second. What is larger than a whole burst takes a whole one.
        tenant_bytes_per_second: usize as Size = 0 in 0 to "64MiB";
        /// Mutations of one tenant per second. 0: any number.
        /// As at user_mutations_per_second.
        tenant_mutations_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Requests with one API key per second. 0: any number.
        /// As at user_commands_per_second.
        key_commands_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Publications with one API key per second. 0: any number.
        /// As at user_publishes_per_second.
        key_publishes_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Mutations with one API key per second. 0: any number.
        /// As at user_mutations_per_second.
        key_mutations_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Publications per second, on this instance. 0: any number.
        /// As at user_publishes_per_second.
        instance_publishes_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Mutations per second, on this instance. 0: any number.
        /// As at user_mutations_per_second.
        instance_mutations_per_second: usize as Count = 0 in 0 to 1_000_000;
        /// Time for which a rate may be saved up: after a quiet time so much comes at once.
        /// Further ones are admitted at the rate.
        rate_burst: Duration = "5s" in "1s" to "1h";
        /// Users, addresses, tenants and keys whose rate is known at once, for each rate; those that were quiet for as long as rate_burst are forgotten.
        /// Until there are less they share 256 rates.
        rate_names_max: usize as Count = 100_000 in 1 to 10_000_000;
        /// Channels that one connection is subscribed to; an event stream has at most 128.
        /// One that asks for presence counts twice. A further subscribe fails with limit_reached, and the connection goes on; a stream for more: 413 too_many_items.
        channels_per_connection: usize as Count = 128 in 1 to 1_000_000;
        /// Tags that one connection watches in one mutation log, and that one command names.
        /// Further ones are watched by a subtree around them where the credential covers it, or denied; a command with more fails with too_many_items.
        tags_per_connection: usize as Count = 10_000 in 1 to 65_536;
        /// Commands of one connection that wait for their answer.
        /// Further ones are not read from the socket until an answer is out.
        commands_pending_max: usize as Count = 64 in 1 to 10_000;
        /// Bytes of data in one publication.
        /// More: HTTP 413 too_large, on a socket the error too_large, or close 1009 where the message itself is over it by 4 KiB and over 64 KiB.
        message_bytes_max: usize as Size = 1_000_000 in 1 to "64MiB";
        /// Bytes that wait for one connection, behind the frame that is being written.
        /// Over it they are forgotten and read again from history, or a volatile channel says gap(overflow).
        mailbox_bytes: usize as Size = "256KiB" in 1 to "64MiB";
        /// Publications in one batch.
        /// The batch is sealed early and the next one begins.
        batch_publications_max: usize as Count = 512 in 1 to 65_536;
        /// Bytes of data in one batch.
        /// The batch is sealed early and the next one begins; a larger publication is a batch of its own.
        batch_bytes_max: usize as Size = "256KiB" in 1 to "64MiB";
        /// Bytes of one HTTP request's header.
        /// More: 431, and the connection is closed.
        header_bytes_max: usize as Size = "8KiB" in "8KiB" to "1MiB";
        /// Fields in one HTTP request's header.
        /// More: 431, and the connection is closed.
        headers_max: usize as Count = 64 in 1 to 1_000;
        /// Publications, events or checks in one HTTP request.
        /// More: 413 too_many_items, and none of them is done.
        request_items_max: usize as Count = 1_000 in 1 to 100_000;
        /// Bytes of the body of one HTTP request that holds several items.
        /// More: 413 too_large, and none of them is done.
        request_bytes_max: usize as Size = "8MiB" in 1 to "1GiB";
        /// Publications in one page of history.
        /// A request for more gets so many, and is told that there are more.
        history_page_max: usize as Count = 1_000 in 1 to 100_000;
        /// Members of one channel in one answer about its presence.
        /// The answer lists so many, says that there are more, and counts them all.
        presence_members_max: usize as Count = 1_000 in 1 to 5_000;
        /// Bytes of history that all channels together keep in this process; with Redis, of what came last.
        /// Those who have most lose theirs, of the channels published to longest ago first, until a tenth is free: gap(trimmed) for who resumes there.
        history_total_bytes: usize as Size = "1GiB" in 1 to "1024GiB";
        /// Channels that were published to, at once, in the memory broker; volatile ones do not count, and Redis has its own bounds.
        /// Of those who have as many as are free, idle ones are forgotten, gap(epoch) for who resumes there; if none is, a further one fails with limit_reached.
        channels_max: usize as Count = 100_000 in 1 to 100_000_000;
        /// Bytes of data on their way to Redis.
        /// A further publish fails with overloaded: nothing of it was stored.
        broker_pending_bytes: usize as Size = "64MiB" in "1MiB" to "64GiB";
        /// Announcements of Redis that wait to be taken in.
        /// More: those that waited longest are dropped, and all channels are read from where they stand.
        broker_announcements_max: usize as Count = 16_384 in 16 to 1_000_000;
        /// Bytes of the announcements of Redis that wait to be taken in.
        /// More: those that come next are dropped, and all channels are read from where they stand.
        broker_announcements_bytes: usize as Size = "64MiB" in "1MiB" to "64GiB";
        /// Bytes that the idempotency keys of this instance's publications and mutations take at once, here or in Redis: their own and 300.
        /// A publish with a further one fails with limit_reached: none is forgotten before its window is over. One caller's take no more than are free.
        idempotency_bytes: usize as Size = "512MiB" in 1 to "1024GiB";
        /// Time for which an idempotency key is remembered.
        /// A retry after it is a new publication.
        idempotency_window: Duration = "10m" in "100ms" to "1day";
        /// Mutation logs beside `default`, on this instance; those of `[log.NAME]` have their place, others appear when they are written to. As many that hold nothing can be watched.
        /// What writes to a further one, or watches it, fails with limit_reached. One caller makes no more than are free.
        logs_max: usize as Count = 16 in 0 to 1_000;
        /// Tags that one event of a request, or one question about freshness, names itself.
        /// More: 413 too_many_items, and nothing of the request is done.
        tags_per_event_max: usize as Count = 64 in 1 to 4_096;
        /// Distinct tags in one event of a mutation log, those that rules give included.
        /// More: 413 too_many_items, and nothing of the request is done.
        mutation_tags_max: usize as Count = 4_096 in 1 to 65_536;
        /// Bytes of one token or API key.
        /// More: 401 unauthorized, and it is not looked into. A socket without a credential sends messages of so much and 4 KiB.
        token_bytes_max: usize as Size = "8KiB" in 1 to "64KiB";
        /// Revocations that are remembered at once; each is, for auth.token_life_max.
        /// A further one fails with limit_reached: none is forgotten before its time.
        revocations_max: usize as Count = 100_000 in 1 to 1_000_000;
        /// Bytes of one set of keys that is fetched from an issuer of tokens; at most 64 of its keys count.
        /// More: the keys that were known stay, and /health says so.
        jwks_bytes_max: usize as Size = "256KiB" in "1KiB" to "4MiB";
    }
}

/// One limit, as documentation lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// The key in `[limits]`.
    pub name: &'static str,
    /// As it is written in a file.
    pub default: &'static str,
    /// What is counted.
    pub counts: &'static str,
    /// What happens at the limit.
    pub at_the_limit: String,
}

/// What a message may have around the data of a publication: the command's name, the channel, ids and keys.
const COMMAND_OVERHEAD_BYTES: usize = 4 * 1024;

impl Limits {
    /// The most bytes of one command on a socket: one that names tags or channels fits, however small publications are (R78).
    pub fn command_bytes_max(&self) -> usize {
        (self.message_bytes_max + COMMAND_OVERHEAD_BYTES).max(COMMAND_BYTES_MIN)
    }

    /// Every limit, in the order in which a file shows them.
    pub fn table() -> Vec<LimitRow> {
        let keys = Limits::SECTION.keys.iter();
        keys.filter_map(|key| {
            let (counts, rest) = key.doc.split_first()?;
            let at_the_limit = rest.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            Some(LimitRow { name: key.name, default: key.default?, counts: counts.trim(), at_the_limit })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_default_and_says_what_happens_at_it() {
        let table = Limits::table();
        assert_eq!(table.len(), Limits::SECTION.keys.len());
        for row in table {
            assert!(row.counts.ends_with('.') && row.at_the_limit.ends_with('.'), "{row:?}");
        }
    }
}
