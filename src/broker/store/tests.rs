use super::*;
use tidings_protocol::{GapReason, Payload};

const ALL: PageLimit = PageLimit { publications: 1_000, bytes: 1 << 20 };

fn retention() -> Retention {
    Retention { publications_max: 100, bytes_max: 1 << 20, age_max: Duration::from_secs(300) }
}

fn store(channels_max: usize, bytes_max: usize) -> Store {
    let key_age = Duration::from_secs(600);
    Store::new(StoreLimits { channels_max, bytes_max, key_age }, "seed")
}

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn name(channel: &str) -> Channel {
    Channel::parse(channel).unwrap()
}

fn key(name: &str) -> Caller {
    Caller { key: Some(name.into()), ..Caller::default() }
}

/// Publishes for a caller; the position, or the error.
fn publish_as(
    store: &mut Store,
    caller: &Caller,
    channel: &str,
    (data, key): (&str, Option<&str>),
    now: Time,
) -> Result<(Position, bool), BrokerError> {
    let command = PublishCommand {
        channel: name(channel),
        payload: Payload::text(data.as_bytes()).unwrap(),
        key: None,
        id: None,
        idempotency_key: key.map(Into::into),
        ack: Ack::Stored,
    };
    let publisher = Publisher { caller, unix_ms: 0, now };
    store.publish(command, &retention(), publisher).map(|stored| match stored {
        Stored::New { published, .. } => (published.position.unwrap(), false),
        Stored::Repeated(published) => (published.position.unwrap(), true),
    })
}

/// Publishes; answers with the offset, `=` before it if the answer was a repeated one, or the error.
fn publish(store: &mut Store, channel: &str, data: &str, key: Option<&str>, at: Time) -> String {
    match publish_as(store, &Caller::default(), channel, (data, key), at) {
        Ok((position, false)) => position.offset.0.to_string(),
        Ok((position, true)) => format!("={}", position.offset.0),
        Err(BrokerError::TooManyChannels(refused)) => format!("TooManyChannels {}", refused.held),
        Err(error) => format!("{error:?}"),
    }
}

fn page(store: &mut Store, channel: &str, since: Option<&Position>, now: Time) -> Page {
    store.read(&name(channel), &retention(), since, ALL, now).unwrap()
}

fn head(store: &mut Store, channel: &str) -> Position {
    page(store, channel, None, Time::ZERO).head()
}

#[test]
fn a_key_makes_a_retry_the_same_publication() {
    let mut store = store(10, 1 << 20);
    assert_eq!(publish(&mut store, "a", "x", Some("k"), at(0)), "1");
    assert_eq!(publish(&mut store, "a", "x", Some("k"), at(599)), "=1");
    assert_eq!(publish(&mut store, "a", "y", Some("k"), at(599)), "IdempotencyMismatch");
    assert_eq!(publish(&mut store, "b", "y", Some("k"), at(599)), "1", "keys belong to a channel");
    assert_eq!(publish(&mut store, "a", "y", Some("k"), at(600)), "2", "the window is over");
}

#[test]
fn a_channel_that_is_only_read_is_not_made_and_its_first_publication_continues_what_was_read() {
    let mut store = store(4, 1 << 20);
    let read = head(&mut store, "a");
    for n in 0..1_000 {
        page(&mut store, &format!("other{n}"), None, at(n));
        store.snapshot(&LogName::parse(&format!("log{n}")).unwrap(), 8);
    }
    assert_eq!((store.channels().used(), store.heads().count()), (0, 0));
    assert_eq!(publish(&mut store, "a", "x", None, at(1_000)), "1");
    let resumed = page(&mut store, "a", Some(&read), at(1_000));
    assert_eq!((resumed.publications.len(), resumed.gap), (1, None));
    assert_ne!(read.epoch, head(&mut store, "b").epoch, "each channel has an epoch of its own");
    assert_eq!(page(&mut store, "b", Some(&read), at(1_000)).gap, Some(GapReason::Epoch));
}

#[test]
fn a_caller_with_its_share_of_channels_loses_only_idle_ones_of_its_own() {
    let mut store = store(5, 1 << 20);
    let (ada, eve) = (key("ada"), key("eve"));
    let mut publish =
        |caller: &Caller, channel: &str, now| publish_as(&mut store, caller, channel, ("x", None), now);
    let quiet = publish(&ada, "quiet", at(0)).unwrap().0;
    let old = publish(&eve, "e1", at(1)).unwrap().0;
    publish(&eve, "e2", at(10)).unwrap();
    let refused = |outcome| matches!(outcome, Err(BrokerError::TooManyChannels(_)));
    assert!(refused(publish(&eve, "e3", at(20))), "it has as many as are free");
    publish(&ada, "a2", at(20)).expect("others have room");
    assert!(refused(publish(&eve, "e3", at(300))), "e1 is within its history's age");
    publish(&eve, "e3", at(302)).expect("e1 is idle");
    assert_eq!(page(&mut store, "e1", Some(&old), at(302)).gap, Some(GapReason::Epoch));
    let resumed = page(&mut store, "quiet", Some(&quiet), at(302));
    assert_eq!(resumed.gap, None, "ada's is as idle, and not eve's to lose");
}

#[test]
fn a_channel_that_somebody_is_attached_to_or_that_lost_its_history_early_is_not_forgotten() {
    let mut store = store(2, 300);
    store.set_attached(&name("a"), true);
    let attached = publish_as(&mut store, &key("ada"), "a", ("x", None), at(0)).unwrap().0;
    assert_eq!(publish(&mut store, "b", "x", None, at(600)), "1");
    assert_eq!(publish(&mut store, "c", "x", None, at(600)), "TooManyChannels 2");
    assert_eq!(page(&mut store, "a", Some(&attached), at(600)).gap, None);
    publish_as(&mut store, &key("ada"), "a", (&"x".repeat(300), None), at(601)).unwrap();
    assert_eq!(
        publish(&mut store, "c", "x", None, at(899)),
        "TooManyChannels 2",
        "b may be resumed until 900"
    );
    store.set_attached(&name("a"), false);
    assert_eq!(publish(&mut store, "c", "x", None, at(902)), "1");
    let forgotten = page(&mut store, "a", Some(&attached), at(902));
    assert_eq!((forgotten.head().offset.0, forgotten.gap), (0, Some(GapReason::Epoch)));
}

#[test]
fn idle_channels_are_looked_for_at_most_once_a_second() {
    let mut store = store(1, 1 << 20);
    publish(&mut store, "a", "x", None, at(0));
    let just_before = Time(Duration::from_millis(299_500));
    assert_eq!(publish(&mut store, "b", "x", None, just_before), "TooManyChannels 1");
    assert_eq!(
        publish(&mut store, "b", "x", None, at(300)),
        "TooManyChannels 1",
        "looked at half a second ago"
    );
    assert_eq!(publish(&mut store, "b", "x", None, Time(Duration::from_millis(300_500))), "1");
}

#[test]
fn the_longest_idle_channel_makes_room_for_bytes() {
    let mut store = store(10, 3_000);
    let data = "x".repeat(872);
    let (b, c) = (head(&mut store, "b"), head(&mut store, "c"));
    for (n, channel) in ["a", "b", "a"].iter().enumerate() {
        publish(&mut store, channel, &data, None, at(n as u64));
    }
    assert_eq!(store.history().used(), 3_000);
    publish(&mut store, "c", &data, None, at(3));
    assert_eq!(page(&mut store, "b", Some(&b), at(3)).gap, Some(GapReason::Trimmed));
    let whole = page(&mut store, "c", Some(&c), at(3));
    assert_eq!((whole.publications.len(), whole.gap), (1, None));
    assert!(store.history().used() <= 2_700, "{}", store.history().used());
}

#[test]
fn who_has_most_of_a_full_history_loses_it_and_others_keep_theirs() {
    let mut store = store(100, 30_000);
    let (ada, eve) = (key("ada"), key("eve"));
    let data = "x".repeat(872);
    let (mine, shared) = (head(&mut store, "mine"), head(&mut store, "shared"));
    for n in 0..10 {
        publish_as(&mut store, &ada, "mine", (&data, None), at(n)).unwrap();
    }
    for n in 0..100 {
        // Some of what eve publishes stands behind one publication of ada's.
        if n == 50 {
            publish_as(&mut store, &ada, "shared", (&data, None), at(n)).unwrap();
        }
        let channel = if n > 50 { "shared".to_owned() } else { format!("e{}", n % 7) };
        publish_as(&mut store, &eve, &channel, (&data, None), at(n)).unwrap();
        assert!(store.history().used() <= 30_000);
        let kept = page(&mut store, "mine", Some(&mine), at(n));
        assert_eq!((kept.publications.len(), kept.gap), (10, None), "after {n}");
    }
    let behind = page(&mut store, "shared", Some(&shared), at(100));
    assert_eq!(behind.gap, Some(GapReason::Trimmed), "what eve has to lose is there");
    store.expire(at(1_000));
    assert_eq!((store.history().used(), store.history().holders()), (0, 0), "all of it is given back");
}
