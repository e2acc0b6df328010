//! What Redis answers, in our words.

use std::sync::Arc;

use fred::error::{Error, ErrorKind};
use fred::types::Value;
use fred::types::config::Server;
use tidings_protocol::{Ack, Epoch, GapReason, INTEGER_MAX, Offset, Position, Publication, decode_stored};
use tracing::{debug, warn};

use crate::broker::BrokerError;
use crate::freshness::{Snapshot, VersionTable};
use crate::hub::{Page, Published};

/// Replies with which Redis refuses a script before or at its first write. `CLUSTERDOWN` is not among them: the library gives
/// that answer to all commands of a connection, those that were done too.
const REFUSALS: [&str; 9] = [
    "OOM",
    "READONLY",
    "NOTPRIMARY",
    "NOREPLICAS",
    "NOPERM",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "WRONGTYPE",
];

/// Replies of a server that is not the one, or not yet or no more: nothing was done. `ASK` is another: it names the server that
/// a key is on already while its slot still moves there.
const ELSEWHERE: [&str; 2] = ["MOVED", "TRYAGAIN"];

/// What a script meets that names no keys and announces on a server that does not have the slot: it did nothing before.
const NOT_HERE: &str = "attempted to access a non local key";

/// The slots of the longest string that Redis keeps.
const SLOTS_MAX: usize = (512 << 20) / VersionTable::SLOT_BYTES;

/// Why a script did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The channel is on another server, or on its way there. Nothing was done.
    Elsewhere,
    /// The channel is on this server already, which does not hold its slot yet. Nothing was done.
    MovedTo(Server),
    /// As the broker says it.
    Broker(BrokerError),
}

/// An answer that no version of ours gives.
#[derive(Debug)]
pub(super) struct Garbage;

/// What a failed write means: whether it was surely not done.
pub(super) fn write_failed(error: &Error) -> Failed {
    let begins = |words: &[&str]| words.contains(&error.details().split(' ').next().unwrap_or_default());
    if begins(&ELSEWHERE) || error.details().contains(NOT_HERE) {
        return Failed::Elsewhere;
    }
    if let Some(server) = asked(error.details()) {
        return Failed::MovedTo(server);
    }
    Failed::Broker(match error.kind() {
        ErrorKind::Backpressure => BrokerError::Overloaded,
        _ if begins(&REFUSALS) => {
            warn!(%error, "redis refused a command");
            BrokerError::Unavailable
        }
        _ => BrokerError::OutcomeUnknown,
    })
}

/// The server that `ASK 3999 127.0.0.1:6381` names. One without a host is the one that answered.
fn asked(words: &str) -> Option<Server> {
    let (host, port) = words.strip_prefix("ASK ")?.split_once(' ')?.1.trim().rsplit_once(':')?;
    Some(Server::new(host, port.parse().ok()?))
}

/// What a failed read means.
pub(super) fn read_failed(error: &Error) -> Failed {
    debug!(%error, "history cannot be read");
    match write_failed(error) {
        elsewhere @ (Failed::Elsewhere | Failed::MovedTo(_)) => elsewhere,
        Failed::Broker(_) => Failed::Broker(BrokerError::Unavailable),
    }
}

/// The first element's word of an answer, and the others.
pub(super) fn words(answer: Value) -> Result<(String, Vec<Value>), Garbage> {
    let mut rest = answer.into_array();
    if rest.is_empty() {
        return Err(Garbage);
    }
    let word = rest.remove(0).into_string().ok_or(Garbage)?;
    Ok((word, rest))
}

/// What a publish script gave, or one that says where a log stands.
pub(super) fn published(answer: Value) -> Result<Published, Failed> {
    let unknown = Failed::Broker(BrokerError::OutcomeUnknown);
    let Ok((word, rest)) = words(answer) else { return Err(unknown) };
    let position = || rest.first().and_then(|position| position.as_str()?.parse().ok());
    match word.as_str() {
        word @ ("new" | "repeated" | "stands") => {
            Ok(Published { position: position(), ack: Ack::Stored, duplicate: word == "repeated" })
        }
        "mismatch" => Err(Failed::Broker(BrokerError::IdempotencyMismatch)),
        _ => Err(unknown),
    }
}

/// The page that the read script gave. It ends before what cannot be read or is not there; one that would begin with that
/// says that all up to the head is lost.
pub(super) fn page(answer: Value) -> Result<Page, Garbage> {
    let (epoch, rest) = words(answer)?;
    let epoch = Epoch::parse(&epoch).map_err(|_| Garbage)?;
    let [head, from, gap, entries @ ..] = rest.as_slice() else { return Err(Garbage) };
    let (head, from) = (offset(head)?, offset(from)?);
    let gap = match gap.as_str().as_deref() {
        Some("") => None,
        Some("epoch") => Some(GapReason::Epoch),
        Some("lost") => Some(GapReason::Lost),
        Some("trimmed") => Some(GapReason::Trimmed),
        _ => return Err(Garbage),
    };
    let mut publications = Vec::with_capacity(entries.len() / 2);
    let mut next = from.next();
    for pair in entries.chunks(2) {
        match entry_at(next, pair) {
            Ok(publication) => publications.push(Arc::new(publication)),
            Err(Garbage) if publications.is_empty() => {
                let gap = Some(gap.unwrap_or(GapReason::Lost));
                return Ok(Page { from: epoch.at(head), publications, head, gap });
            }
            Err(Garbage) => break,
        }
        next = next.next();
    }
    Ok(Page { from: epoch.at(from), publications, head, gap })
}

/// The publication of a pair of offset and entry, which must be at this offset.
fn entry_at(expected: Offset, pair: &[Value]) -> Result<Publication, Garbage> {
    let [at, entry] = pair else { return Err(Garbage) };
    if offset(at)? != expected {
        return Err(Garbage);
    }
    entry_of(entry.as_bytes().ok_or(Garbage)?, Some(expected))
}

fn offset(value: &Value) -> Result<Offset, Garbage> {
    value.as_u64().filter(|offset| *offset <= INTEGER_MAX).map(Offset).ok_or(Garbage)
}

/// What the snapshot script gave.
pub(super) fn snapshot(answer: Value) -> Result<Snapshot, Garbage> {
    let (epoch, rest) = words(answer)?;
    let epoch = Epoch::parse(&epoch).map_err(|_| Garbage)?;
    let [head, lineage, slots, pieces @ ..] = rest.as_slice() else { return Err(Garbage) };
    let lineage = lineage.as_str().and_then(|lineage| lineage.parse().ok()).ok_or(Garbage)?;
    let slots = slots.as_u64().map(|slots| slots as usize).ok_or(Garbage)?;
    if !slots.is_power_of_two() || slots > SLOTS_MAX {
        return Err(Garbage);
    }
    let pieces: Option<Vec<&[u8]>> = pieces.iter().map(Value::as_bytes).collect();
    let table = VersionTable::from_bytes(&pieces.ok_or(Garbage)?.concat(), slots);
    Ok(Snapshot { position: epoch.at(offset(head)?), lineage, table })
}

/// An announcement: where it belongs, `None` on a volatile channel, and the publication.
pub(super) fn announcement(bytes: &[u8]) -> Result<(Option<Epoch>, Publication), Garbage> {
    let (place, entry) = split_word(bytes)?;
    if place == "-" {
        return Ok((None, entry_of(entry, None)?));
    }
    let Position { epoch, offset } = place.parse().map_err(|_| Garbage)?;
    Ok((Some(epoch), entry_of(entry, Some(offset))?))
}

/// The time, a space, and the stored publication.
fn entry_of(bytes: &[u8], offset: Option<Offset>) -> Result<Publication, Garbage> {
    let (time, stored) = split_word(bytes)?;
    decode_stored(stored, offset, time.parse().map_err(|_| Garbage)?).map_err(|error| {
        debug!(%error, "redis holds what this version cannot read");
        Garbage
    })
}

fn split_word(bytes: &[u8]) -> Result<(&str, &[u8]), Garbage> {
    let space = bytes.iter().position(|byte| *byte == b' ').ok_or(Garbage)?;
    let word = std::str::from_utf8(&bytes[..space]).map_err(|_| Garbage)?;
    Ok((word, &bytes[space + 1..]))
}

/// Takes an announcement, and an answer of these pieces, as each of the scripts might give it. Test builds only.
#[cfg(feature = "ablation")]
pub fn read_redis_answers(announced: &[u8], pieces: &[&[u8]]) {
    announcement(announced).ok();
    let value = |bytes: &&[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.parse::<i64>().map_or_else(|_| text.into(), Value::Integer),
        Err(_) => Value::Bytes(bytes.to_vec().into()),
    };
    let answer = || Value::Array(pieces.iter().map(value).collect());
    published(answer()).ok();
    page(answer()).ok();
    snapshot(answer()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::{Payload, encode_stored};

    fn entry(time: &str) -> Vec<u8> {
        let stored = encode_stored(&Payload::text(b"x y").unwrap(), None, None);
        [time.as_bytes(), b" ", &stored].concat()
    }

    fn array(values: &[&[u8]]) -> Value {
        let value = |bytes: &&[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => Value::Bytes(bytes.to_vec().into()),
        };
        Value::Array(values.iter().map(value).collect())
    }

    #[test]
    fn an_announcement_is_read_and_garbage_is_refused() {
        let read = |bytes: Vec<u8>| announcement(&bytes);
        let (epoch, publication) = read([b"1-a.7 ".to_vec(), entry("12")].concat()).unwrap();
        assert_eq!(epoch.unwrap().as_str(), "1-a");
        assert_eq!((publication.offset, publication.time), (Some(Offset(7)), 12));
        assert!(read([b"- ".to_vec(), entry("12")].concat()).unwrap().0.is_none());
        for garbage in [&b""[..], b"hello", b"1-a.7 ", b"1-a.7 12 x", b"1-a 12 \xc1", b"\xff\xff \xff"] {
            assert!(read(garbage.to_vec()).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn a_page_is_read_and_garbage_is_refused() {
        let kept = entry("12");
        let whole = array(&[b"1-a", b"9", b"7", b"", b"8", &kept, b"9", &kept]);
        let page_read = page(whole).unwrap();
        assert_eq!((page_read.from.to_string(), page_read.publications.len()), ("1-a.7".to_owned(), 2));
        for garbage in [
            array(&[b"1-a", b"9", b"7", b"other", b"8", &kept]),
            array(&[b"1-a", b"x", b"7", b""]),
            array(&[b"1-a", b"18446744073709551615", b"18446744073709551615", b"", b"8", &kept]),
            array(&[]),
            Value::Null,
        ] {
            assert!(page(garbage).is_err());
        }
    }

    #[test]
    fn a_snapshot_is_read_and_garbage_is_refused() {
        let table = [[0; 8], 7_u64.to_be_bytes()].concat();
        let read = snapshot(array(&[b"2-a", b"9", b"1-a.5", b"2", &table[..3], &table[3..]])).unwrap();
        assert_eq!((read.position.to_string(), read.lineage.to_string()), ("2-a.9".into(), "1-a.5".into()));
        assert_eq!(read.table, VersionTable::from_bytes(&table, 2));
        let empty = snapshot(array(&[b"2-a", b"0", b"", b"2"])).unwrap();
        assert_eq!(empty.table, VersionTable::new(2));
        for garbage in [
            array(&[b"2-a", b"9", b"", b"3", &table]),
            array(&[b"2-a", b"9", b"", b"134217728", b""]),
            array(&[b"2-a", b"9", b"x", b"2", &table]),
            array(&[b"2-a", b"x", b"", b"2", &table]),
            array(&[b"2-a", b"9", b""]),
            Value::Null,
        ] {
            assert!(snapshot(garbage).is_err());
        }
    }

    #[test]
    fn what_cannot_be_read_ends_a_page_and_is_lost_at_the_beginning_of_one() {
        let kept = entry("12");
        let (mut ended, mut lost) = (Vec::new(), Vec::new());
        for broken in [&b"hello"[..], b"12 \xc1", b""] {
            ended.push(array(&[b"1-a", b"9", b"6", b"", b"7", &kept, b"8", broken]));
            lost.push(array(&[b"1-a", b"9", b"7", b"", b"8", broken, b"9", &kept]));
        }
        ended.push(array(&[b"1-a", b"9", b"6", b"", b"7", &kept, b"9", &kept]));
        lost.push(array(&[b"1-a", b"9", b"6", b"", b"8", &kept]));
        lost.push(array(&[b"1-a", b"9", b"7", b"", b"8"]));
        for answer in ended {
            let page = page(answer).unwrap();
            assert_eq!((page.end().to_string(), page.gap, page.more()), ("1-a.7".to_owned(), None, true));
        }
        for answer in lost {
            let page = page(answer).unwrap();
            let seen = (page.from.to_string(), page.publications.len(), page.gap);
            assert_eq!(seen, ("1-a.9".to_owned(), 0, Some(GapReason::Lost)));
        }
        let trimmed = page(array(&[b"1-a", b"9", b"7", b"trimmed", b"8", b"hello"])).unwrap();
        assert_eq!(trimmed.gap, Some(GapReason::Trimmed), "the first reason stands");
    }

    #[test]
    fn a_refused_write_was_surely_not_done_and_any_other_failure_is_unknown() {
        let failed = |kind, words: &'static str| write_failed(&Error::new(kind, words));
        let (unavailable, unknown) =
            (Failed::Broker(BrokerError::Unavailable), Failed::Broker(BrokerError::OutcomeUnknown));
        for (kind, words, expected) in [
            (ErrorKind::Unknown, "OOM command not allowed", &unavailable),
            (ErrorKind::Unknown, "NOREPLICAS Not enough", &unavailable),
            (ErrorKind::Unknown, "WRONGTYPE Operation against", &unavailable),
            (ErrorKind::Cluster, "MOVED 3999 127.0.0.1:6381", &Failed::Elsewhere),
            (ErrorKind::Cluster, "TRYAGAIN Multiple keys request", &Failed::Elsewhere),
            (ErrorKind::Cluster, "ASK 3999 10.0.0.1:6381", &Failed::MovedTo(Server::new("10.0.0.1", 6_381))),
            (ErrorKind::Cluster, "ASK 3999 ::1:6381", &Failed::MovedTo(Server::new("::1", 6_381))),
            (ErrorKind::Cluster, "ASK", &unknown),
            (
                ErrorKind::Unknown,
                "ERR Script attempted to access a non local key in a cluster node",
                &Failed::Elsewhere,
            ),
            (ErrorKind::Backpressure, "full", &Failed::Broker(BrokerError::Overloaded)),
            (ErrorKind::Timeout, "Request timed out.", &unknown),
            (ErrorKind::IO, "Connection closed", &unknown),
            (ErrorKind::Cluster, "CLUSTERDOWN The cluster is down", &unknown),
            (ErrorKind::Unknown, "ERR something about OOM", &unknown),
        ] {
            assert_eq!(failed(kind, words), *expected, "{words}");
        }
    }
}
