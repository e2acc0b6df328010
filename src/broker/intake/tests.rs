use super::*;
use crate::hub::PageLimit;
use tidings_protocol::{GapReason, Offset, Payload};

const LIMIT: PageLimit = PageLimit { publications: 1_000, bytes: 1 << 20 };

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn retention() -> Retention {
    Retention { publications_max: 3, bytes_max: 1 << 20, age_max: Duration::from_secs(300) }
}

fn intake() -> Intake {
    Intake::new(IntakeLimits {
        linger: Duration::from_secs(10),
        lingering_max: 2,
        tail_bytes_max: 1 << 20,
        reads_max: 8,
        refresh: Duration::from_secs(3_600),
    })
}

fn publication(offset: u64) -> Arc<Publication> {
    let payload = Payload::text(b"x").unwrap();
    Arc::new(Publication { offset: Some(Offset(offset)), time: 0, id: None, key: None, payload })
}

/// A page from `from` to `last`, with the head there or beyond.
fn page(from: &str, last: u64, head: u64, gap: Option<GapReason>) -> Page {
    let from: Position = from.parse().unwrap();
    let publications = (from.offset.0 + 1..=last).map(publication).collect();
    Page { from, publications, head: Offset(head), gap }
}

/// Announces `offset` on channel `c`.
fn announce(intake: &mut Intake, epoch: &str, offset: u64) {
    intake.handle_publication(&channel("c"), Epoch::parse(epoch).ok(), publication(offset), at(0));
}

/// What the instance is told: `a.11`, or `lost`.
fn told(intake: &mut Intake) -> Vec<String> {
    let name = |event| match event {
        BrokerEvent::Publication { epoch, publication, .. } => {
            epoch.zip(publication.offset).map_or("-".to_owned(), |(epoch, at)| epoch.at(at).to_string())
        }
        BrokerEvent::Lost(_) => "lost".to_owned(),
        BrokerEvent::Listening { number, .. } => format!("listening {number}"),
        other => unreachable!("{other:?} does not come of an intake"),
    };
    std::iter::from_fn(|| intake.poll_event()).map(name).collect()
}

/// Answers the next read; fails if none is asked for, or not after `since`.
fn answer(intake: &mut Intake, since: Option<&str>, page: Page) {
    let read = intake.poll_read().expect("a read is due");
    assert_eq!(read.since.as_ref().map(Position::to_string).as_deref(), since);
    intake.handle_page(&read, Ok(Some(page)), at(0));
}

/// Listens to `c`, which stands at `a.10`.
fn live() -> Intake {
    let mut intake = intake();
    intake.listen(&channel("c"), 1, &retention());
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))));
    assert!(intake.poll_read().is_none(), "reading comes after listening");
    intake.handle_listening(&channel("c"));
    assert!(told(&mut intake).is_empty(), "it is not known where the channel stands");
    answer(&mut intake, None, page("a.10", 10, 10, None));
    assert_eq!(told(&mut intake), ["listening 1"]);
    intake
}

#[test]
fn what_is_announced_in_order_is_passed_on_and_kept_for_those_who_resume() {
    let mut intake = live();
    for offset in 11..=15 {
        announce(&mut intake, "a", offset);
    }
    assert_eq!(told(&mut intake), ["a.11", "a.12", "a.13", "a.14", "a.15"]);
    let mut resume = |since: &str| {
        let since: Position = since.parse().unwrap();
        let page = intake.resume(&channel("c"), Some(&since), LIMIT, at(0));
        page.map(|page| (page.publications.len(), page.head().to_string()))
    };
    assert_eq!(resume("a.12"), Some((3, "a.15".to_owned())));
    assert_eq!(resume("a.15"), Some((0, "a.15".to_owned())));
    assert_eq!(resume("a.11"), None, "the tail does not reach back so far");
    assert_eq!(resume("a.16"), None, "the broker may be ahead");
    assert_eq!(resume("b.12"), None, "the broker knows its own numberings");
}

#[test]
fn a_hole_is_filled_before_what_follows_it_is_passed_on() {
    let mut intake = live();
    announce(&mut intake, "a", 13);
    announce(&mut intake, "a", 14);
    assert!(told(&mut intake).is_empty());
    answer(&mut intake, Some("a.10"), page("a.10", 13, 13, None));
    assert_eq!(told(&mut intake), ["a.11", "a.12", "a.13"]);
    answer(&mut intake, Some("a.13"), page("a.13", 14, 14, None));
    announce(&mut intake, "a", 15);
    assert_eq!(told(&mut intake), ["a.14", "a.15"]);
}

#[test]
fn what_history_does_not_have_is_told_as_lost() {
    let mut intake = live();
    announce(&mut intake, "a", 20);
    answer(&mut intake, Some("a.10"), page("a.17", 20, 20, Some(GapReason::Trimmed)));
    announce(&mut intake, "a", 21);
    assert_eq!(told(&mut intake), ["lost", "a.21"]);
}

#[test]
fn another_numbering_continues_the_tail_where_history_says_so() {
    let mut intake = live();
    announce(&mut intake, "a", 11);
    announce(&mut intake, "b", 12);
    answer(&mut intake, Some("a.11"), page("b.11", 12, 12, None));
    assert_eq!(told(&mut intake), ["a.11", "b.12"]);
    let since = "a.10".parse().unwrap();
    let page = intake.resume(&channel("c"), Some(&since), LIMIT, at(0)).unwrap();
    assert_eq!((page.from.to_string(), page.publications.len()), ("b.10".to_owned(), 2));
}

#[test]
fn a_session_that_is_ahead_hears_of_another_numbering_before_anything_follows() {
    let mut intake = live();
    // A session has read a.11 by itself. The announcement was lost, then the publication.
    intake.handle_doubt();
    answer(&mut intake, Some("a.10"), page("b.10", 10, 10, None));
    assert_eq!(told(&mut intake), ["lost"]);
    let since = "a.11".parse().unwrap();
    assert!(intake.resume(&channel("c"), Some(&since), LIMIT, at(0)).is_none(), "the broker says why");
    let since = "a.10".parse().unwrap();
    let page = intake.resume(&channel("c"), Some(&since), LIMIT, at(0)).unwrap();
    assert_eq!(page.from.to_string(), "b.10", "whoever was not ahead goes on");
}

#[test]
fn a_new_link_makes_every_channel_listened_to_and_read_again() {
    let mut intake = live();
    let since = "a.10".parse().unwrap();
    assert!(intake.resume(&channel("c"), Some(&since), LIMIT, at(0)).is_some(), "nobody knows better yet");
    intake.handle_server_lost(|_| true);
    intake.listen(&channel("c"), 2, &retention());
    assert!(told(&mut intake).is_empty(), "whoever comes meanwhile waits");
    assert!(intake.resume(&channel("c"), Some(&since), LIMIT, at(0)).is_none());
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))));
    assert!(intake.poll_read().is_none());
    intake.handle_listening(&channel("c"));
    answer(&mut intake, Some("a.10"), page("a.10", 12, 12, None));
    assert_eq!(told(&mut intake), ["listening 2", "a.11", "a.12"]);
}

#[test]
fn a_lost_server_makes_only_its_own_channels_listened_to_again() {
    let mut intake = live();
    intake.handle_server_lost(|name| name.as_str() != "c");
    assert!(intake.poll_interest().is_none());
    for _ in 0..2 {
        intake.handle_server_lost(|name| name.as_str() == "c");
    }
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))));
    assert_eq!(intake.poll_interest(), None, "once");
    intake.handle_listening(&channel("c"));
    answer(&mut intake, Some("a.10"), page("a.10", 12, 12, None));
    assert_eq!(told(&mut intake), ["a.11", "a.12"]);
}

#[test]
fn a_head_that_never_arrives_makes_the_channel_listened_to_and_read_again() {
    let mut intake = live();
    for (head, arrives) in [(11, true), (12, false)] {
        let head = format!("a.{head}").parse().unwrap();
        intake.handle_head(&channel("c"), Some(head), at(1_000));
        if arrives {
            announce(&mut intake, "a", 11);
        }
        intake.handle_timeout(at(1_249));
        assert_eq!(intake.poll_interest(), None);
        intake.handle_timeout(at(1_250));
        assert_eq!(intake.poll_interest().is_none(), arrives);
    }
    intake.handle_listening(&channel("c"));
    answer(&mut intake, Some("a.11"), page("a.11", 12, 12, None));
    assert_eq!(told(&mut intake), ["a.11", "a.12"]);
}

#[test]
fn a_head_that_is_told_while_another_is_awaited_is_awaited_too() {
    let mut intake = live();
    for (head, ms) in [("a.11", 0), ("a.13", 100), ("a.12", 110)] {
        intake.handle_head(&channel("c"), head.parse().ok(), at(ms));
    }
    announce(&mut intake, "a", 11);
    announce(&mut intake, "a", 12);
    intake.handle_timeout(at(250));
    assert_eq!(intake.poll_interest(), None, "the first one has come, and the others have time");
    intake.handle_timeout(at(359));
    assert_eq!(intake.poll_interest(), None);
    intake.handle_timeout(at(360));
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))), "a.13 was told before a.12");
    intake.handle_listening(&channel("c"));
    answer(&mut intake, Some("a.12"), page("a.12", 13, 13, None));
    intake.handle_timeout(at(10_000));
    assert_eq!(intake.poll_interest(), None, "nothing is awaited any more");
}

#[test]
fn the_later_of_two_numberings_is_not_known() {
    let mut intake = live();
    for (head, ms) in [("a.11", 0), ("a.11", 100), ("b.2", 110)] {
        intake.handle_head(&channel("c"), head.parse().ok(), at(ms));
    }
    announce(&mut intake, "a", 11);
    intake.handle_timeout(at(250));
    intake.handle_timeout(at(360));
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))), "reading tells");
}

#[test]
fn a_read_that_fails_is_tried_again_and_one_that_is_late_does_not_count() {
    let mut intake = live();
    intake.handle_doubt();
    let failed = intake.poll_read().unwrap();
    intake.handle_page(&failed, Err(()), at(0));
    assert!(intake.poll_read().is_none());
    intake.handle_timeout(at(500));
    let late = intake.poll_read().unwrap();
    intake.unlisten(&channel("c"), at(500));
    intake.handle_timeout(at(10_500));
    intake.listen(&channel("c"), 2, &retention());
    intake.handle_listening(&channel("c"));
    intake.handle_page(&late, Ok(Some(page("a.10", 10, 10, None))), at(0));
    answer(&mut intake, None, page("a.12", 12, 12, None));
    announce(&mut intake, "a", 13);
    assert_eq!(told(&mut intake), ["listening 2", "a.13"]);
}

#[test]
fn a_broker_that_did_not_listen_is_told_again() {
    let mut intake = intake();
    intake.listen(&channel("c"), 1, &retention());
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))));
    intake.handle_not_listening(&channel("c"), at(0));
    intake.handle_timeout(at(499));
    assert_eq!(intake.poll_interest(), None);
    intake.handle_timeout(at(500));
    assert_eq!(intake.poll_interest(), Some(Interest::Listen(channel("c"))));
}

#[test]
fn sessions_wait_until_it_is_known_where_their_channel_stands() {
    let mut intake = intake();
    intake.listen(&channel("c"), 1, &retention());
    intake.handle_listening(&channel("c"));
    // A session that read history now could see a.10, and the instance would go on after a.11.
    intake.listen(&channel("c"), 2, &retention());
    assert!(told(&mut intake).is_empty(), "nor may whoever comes second");
    answer(&mut intake, None, page("a.11", 11, 11, None));
    announce(&mut intake, "a", 11);
    announce(&mut intake, "a", 12);
    assert_eq!(told(&mut intake), ["listening 2", "a.12"], "the later answer holds for all before it");
}

#[test]
fn a_volatile_channel_lost_what_came_until_it_was_listened_to_again() {
    let mut intake = intake();
    intake.listen(&channel("c"), 1, &Retention { publications_max: 0, ..retention() });
    intake.handle_listening(&channel("c"));
    assert_eq!(told(&mut intake), ["listening 1"], "it begins");
    intake.handle_server_lost(|_| true);
    intake.handle_lag();
    intake.handle_server_lost(|_| true);
    assert!(told(&mut intake).is_empty(), "nothing is passed on before it is listened to again");
    intake.handle_listening(&channel("c"));
    assert_eq!(told(&mut intake), ["lost"], "one gap, where it goes on");
}

#[test]
fn a_confirmation_of_an_earlier_time_is_not_relied_on() {
    let mut intake = live();
    // The channel was forgotten and listened to again before the first of two confirmations came.
    intake.handle_listening(&channel("c"));
    answer(&mut intake, Some("a.10"), page("a.10", 11, 11, None));
    assert_eq!(told(&mut intake), ["a.11"], "it was not announced between the two");
}

#[test]
fn what_nobody_needs_is_listened_to_a_while_longer() {
    let mut intake = live();
    intake.unlisten(&channel("c"), at(0));
    intake.handle_timeout(at(9_999));
    intake.listen(&channel("c"), 2, &retention());
    assert_eq!(told(&mut intake), ["listening 2"], "it is still listened to");
    intake.unlisten(&channel("c"), at(9_999));
    intake.handle_timeout(at(10_000));
    assert_eq!(intake.poll_interest(), None, "the second wait counts");
    intake.handle_timeout(at(20_000));
    assert_eq!(intake.poll_interest(), Some(Interest::Unlisten(channel("c"))));
    assert_eq!((intake.channels().len(), intake.tail_bytes), (0, 0));
}

#[test]
fn a_channel_is_needed_or_not_however_often_that_is_said() {
    let mut intake = live();
    intake.listen(&channel("c"), 2, &retention());
    intake.listen(&channel("c"), 3, &retention());
    intake.unlisten(&channel("c"), at(0));
    intake.unlisten(&channel("c"), at(5_000));
    intake.unlisten(&channel("other"), at(5_000));
    intake.handle_timeout(at(9_999));
    assert_eq!(intake.poll_interest(), None);
    intake.handle_timeout(at(10_000));
    assert_eq!(
        intake.poll_interest(),
        Some(Interest::Unlisten(channel("c"))),
        "10 s after it was said first"
    );
}

#[test]
fn a_broker_that_goes_on_announcing_what_nobody_needs_is_told_again() {
    let mut intake = live();
    intake.unlisten(&channel("c"), at(0));
    for ms in [10_000, 10_500, 11_000] {
        intake.handle_timeout(at(ms));
        assert_eq!(intake.poll_interest(), Some(Interest::Unlisten(channel("c"))));
        intake.handle_timeout(at(ms + 499));
        assert_eq!(intake.poll_interest(), None);
    }
    intake.handle_unlistened(&channel("c"));
    intake.handle_timeout(at(20_000));
    assert_eq!(intake.poll_interest(), None, "it has confirmed that");
    // What was asked for long ago is confirmed only now.
    intake.handle_listening(&channel("late"));
    assert_eq!(intake.poll_interest(), Some(Interest::Unlisten(channel("late"))));
    intake.handle_server_lost(|_| true);
    intake.handle_timeout(at(30_000));
    assert_eq!(intake.poll_interest(), None, "another connection announces nothing");
}

#[test]
fn only_so_many_channels_linger_and_only_so_many_bytes_are_kept() {
    let mut intake = live();
    for name in ["d", "e", "f"] {
        intake.listen(&channel(name), 1, &retention());
        intake.unlisten(&channel(name), at(0));
    }
    intake.handle_timeout(at(0));
    assert_eq!(intake.channels().len(), 3, "c and the two that came last");
    intake.limits.tail_bytes_max = 3 * publication(1).memory() - 1;
    for offset in 11..=13 {
        announce(&mut intake, "a", offset);
    }
    assert!(intake.tail_bytes <= intake.limits.tail_bytes_max);
}

#[test]
fn a_volatile_channel_is_passed_on_as_it_comes_and_its_losses_are_told() {
    let mut intake = intake();
    intake.listen(&channel("c"), 1, &Retention { publications_max: 0, ..retention() });
    intake.handle_listening(&channel("c"));
    assert_eq!(told(&mut intake), ["listening 1"]);
    assert!(intake.poll_read().is_none(), "there is nothing to read");
    let publication = Arc::new(Publication { offset: None, ..Publication::clone(&publication(1)) });
    intake.handle_publication(&channel("c"), None, publication, at(0));
    assert!(matches!(intake.poll_event(), Some(BrokerEvent::Publication { epoch: None, .. })));
    intake.handle_doubt();
    assert!(told(&mut intake).is_empty(), "an instance that died loses none of its announcements");
    intake.handle_lag();
    assert_eq!(told(&mut intake), ["lost"]);
}

mod loss;
