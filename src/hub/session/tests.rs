//! What a stream of several channels says before all of them are joined: nothing. And what all sessions say of the broker.

use super::*;
use crate::hub::{Answer, CatchUp, Expiry, Page, Pattern};
use tidings_protocol::{Epoch, Offset, Payload, PresenceFrame, Publication, SubscribeCommand};

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn publication(offset: u64) -> Arc<Publication> {
    let payload = Payload::text(b"x").unwrap();
    Arc::new(Publication { offset: Some(Offset(offset)), time: 0, id: None, key: None, payload })
}

fn batch(name: &str, offset: u64) -> Arc<Batch> {
    let epoch = Epoch::parse("a").unwrap();
    Arc::new(Batch::new(channel(name), Some(epoch), vec![publication(offset)]))
}

fn page(from: &str, gap: Option<GapReason>) -> Page {
    let from: Position = from.parse().unwrap();
    Page { publications: Vec::new(), head: from.offset, from, gap }
}

/// A session of a transport that catches up so, which was not greeted yet.
pub(super) fn session(catch_up: CatchUp) -> Session {
    let hello = HelloFrame {
        session: String::new(),
        ping_interval_ms: 25_000,
        timeout_ms: 60_000,
        batch_ms: 100,
        lease_ms: 15_000,
        message_bytes_max: 1_000,
        command_bytes_max: 65_536,
    };
    let config = SessionConfig {
        hello,
        broker: "redis",
        catch_up,
        heartbeat: Heartbeat { interval: Duration::from_secs(25), timeout: None },
        age_max: Some(Duration::from_secs(1_000)),
        hello_timeout: Duration::from_secs(5),
        retry_after: Duration::from_secs(1),
        channels_max: 8,
        members_max: 8,
        tags_per_command_max: 100,
        lease: Duration::from_secs(15),
        commands_max: 8,
        message_bytes_max: 1_000,
        waiting_bytes_max: 1_000,
        page: PageLimit { publications: 10, bytes: 1_000 },
    };
    Session::new(Arc::new(config), "s".to_owned(), Some(Grant::open()), 0.0, Time::ZERO)
}

/// A stream that resumes `a` after a.3 and `b` after a.5; both joins are still to come.
fn stream() -> Session {
    let subscribe = |name: &str, since: &str| SubscribeCommand {
        channel: channel(name),
        since: Some(since.parse().unwrap()),
        presence: false,
        token: None,
    };
    let subscribes = vec![subscribe("a", "a.3"), subscribe("b", "a.5")];
    session(CatchUp::ByServer).with_channels(subscribes, Vec::new(), CursorState::Read)
}

fn join(session: &mut Session, page: Page) {
    assert!(matches!(session.poll_action(), Some(Action::Join { .. })), "the next channel joins");
    session.handle_answer(Answer::Joined(Ok(Some(page))), Time::ZERO);
}

#[test]
fn a_stream_is_greeted_before_it_is_told_of_a_gap() {
    let mut session = stream();
    join(&mut session, page("a.9", Some(GapReason::Trimmed)));
    assert!(!session.has_transmits() && session.poll_transmit().is_none(), "`b` has not joined");
    join(&mut session, page("a.5", None));
    let frames: Vec<Transmit> = std::iter::from_fn(|| session.poll_transmit()).collect();
    let [Transmit::Frame(hello), Transmit::Frame(gap)] = &frames[..] else { panic!("{frames:?}") };
    assert!(matches!(hello.frame, Frame::Hello(_)));
    assert!(matches!(&gap.frame, Frame::Gap(gap) if gap.reason == GapReason::Trimmed));
    let positions: Vec<String> = session.positions().map(|(_, position)| position.to_string()).collect();
    assert_eq!(positions, ["a.9", "a.5"], "the first cursor holds every channel");
}

#[test]
fn what_comes_before_a_stream_is_greeted_is_read_from_history_after_it() {
    let mut session = stream();
    join(&mut session, page("a.3", None));
    session.handle_batch(&batch("a", 4));
    assert!(session.poll_transmit().is_none());
    join(&mut session, page("a.5", None));
    let Some(Action::Resume { channel, since, .. }) = session.poll_action() else { panic!("`a` is behind") };
    assert_eq!((channel.as_str(), since.to_string()), ("a", "a.3".to_owned()));
}

#[test]
fn a_stream_that_is_closed_before_its_greeting_says_only_that() {
    let mut session = stream();
    join(&mut session, page("a.9", Some(GapReason::Trimmed)));
    session.close(Close::new(CloseCode::Restart, ""));
    assert!(matches!(session.poll_transmit(), Some(Transmit::Close(_))));
    assert!(session.poll_transmit().is_none());
}

#[test]
fn a_stream_that_cannot_join_is_told_when_to_come_back() {
    let mut session = stream();
    assert!(matches!(session.poll_action(), Some(Action::Join { .. })));
    session.handle_answer(Answer::Joined(Err(Code::BrokerUnavailable.into())), Time::ZERO);
    let Some(Transmit::Close(close)) = session.poll_transmit() else { panic!("it is closed") };
    assert_eq!((close.code, close.after), (CloseCode::Overloaded, Some(Duration::from_secs(1))));
    let spread =
        [0.0, 0.5, 1.0].map(|jitter| Close::for_now("", jitter).after.expect("it is set").as_millis());
    assert_eq!(spread, [1_000, 3_000, 5_000]);
}

#[test]
fn a_connection_that_is_old_enough_is_asked_to_come_back() {
    let mut session = session(CatchUp::ByClient);
    let at = |seconds| Time(Duration::from_secs(seconds));
    session.handle_timeout(at(899));
    assert!(session.is_open(), "with the least jitter it lives nine tenths of what it may");
    assert_eq!(session.poll_timeout(), Some(at(900)));
    while session.poll_transmit().is_some() {}
    session.handle_timeout(at(900));
    let Some(Transmit::Close(close)) = session.poll_transmit() else { panic!("it is closed") };
    assert_eq!((close.code, close.after.is_some()), (CloseCode::Reconnect, true));
}

#[test]
fn nothing_follows_the_last_word() {
    let mut session = stream();
    join(&mut session, page("a.3", None));
    join(&mut session, page("a.5", None));
    session.handle_forgotten(&channel("a"), GapReason::Overflow);
    assert!(matches!(session.poll_action(), Some(Action::Resume { .. })), "`a` is read");
    session.close(Close::new(CloseCode::Restart, ""));
    session.handle_batch(&batch("b", 6));
    session.handle_answer(Answer::Read(Ok(page("a.3", Some(GapReason::Trimmed)))), Time::ZERO);
    let said: Vec<Transmit> = std::iter::from_fn(|| session.poll_transmit()).collect();
    let [Transmit::Frame(_), Transmit::Close(_)] = &said[..] else { panic!("{said:?}") };
}

const DOWN: BrokerState = BrokerState::Down { since_ms: 5 };

/// What the session says next, a word for each frame.
fn said(session: &mut Session) -> Vec<String> {
    let word = |transmit| match transmit {
        Transmit::Frame(envelope) => match envelope.frame {
            Frame::Hello(_) => "hello".to_owned(),
            Frame::Gap(gap) => format!("gap {}", gap.reason.as_str()),
            Frame::Degraded(frame) => format!("degraded {} {}", frame.component, frame.since),
            Frame::Restored(frame) => format!("restored {}", frame.component),
            Frame::Subscribed(frame) => format!("subscribed {}", frame.channel),
            Frame::Unsubscribed(frame) => format!("unsubscribed {}", frame.channel),
            Frame::Error(frame) => frame.code.slug().to_owned(),
            Frame::Presence(PresenceFrame::Changes(changes)) => match (changes.lost, changes.code) {
                (true, None) => format!("presence lost {}", changes.channel),
                (false, Some(code)) => format!("presence {code} {}", changes.channel),
                _ => panic!("{changes:?}"),
            },
            other => panic!("{other:?}"),
        },
        Transmit::Close(_) => "close".to_owned(),
        Transmit::Batch { batch, .. } => format!("batch {}", batch.channel),
        Transmit::Ping => panic!("{transmit:?}"),
    };
    std::iter::from_fn(|| session.poll_transmit()).map(word).collect()
}

/// A stream that was greeted.
fn greeted() -> Session {
    let mut session = stream();
    join(&mut session, page("a.3", None));
    join(&mut session, page("a.5", None));
    assert_eq!(said(&mut session), ["hello"]);
    session
}

#[test]
fn each_change_of_the_broker_is_said_once() {
    let mut session = greeted();
    for (state, expected) in [
        (BrokerState::Up, ""),
        (DOWN, "degraded redis 5"),
        (DOWN, ""),
        (BrokerState::Down { since_ms: 9 }, "degraded redis 9"),
        (BrokerState::Up, "restored redis"),
        (BrokerState::Up, ""),
    ] {
        session.handle_broker_state(state);
        assert_eq!(said(&mut session).concat(), expected, "{state:?}");
    }
}

#[test]
fn an_outage_before_the_greeting_is_said_right_after_it() {
    let mut session = stream();
    session.handle_broker_state(DOWN);
    join(&mut session, page("a.9", Some(GapReason::Trimmed)));
    assert_eq!(said(&mut session), [""; 0]);
    join(&mut session, page("a.5", None));
    assert_eq!(said(&mut session), ["hello", "degraded redis 5", "gap trimmed"]);
    session.handle_broker_state(BrokerState::Up);
    assert_eq!(said(&mut session), ["restored redis"]);
}

#[test]
fn an_outage_that_is_over_before_the_greeting_is_not_said() {
    let mut session = stream();
    session.handle_broker_state(DOWN);
    session.handle_broker_state(BrokerState::Up);
    join(&mut session, page("a.3", None));
    join(&mut session, page("a.5", None));
    assert_eq!(said(&mut session), ["hello"]);
}

#[test]
fn whoever_has_no_credential_yet_hears_of_an_outage_with_the_greeting() {
    let config = greeted().config;
    let mut session = Session::new(config, "s".to_owned(), None, 0.0, Time::ZERO);
    session.handle_broker_state(DOWN);
    assert_eq!(said(&mut session), [""; 0]);
    session.handle_command(None, Command::Connect { token: "t".into() });
    assert!(matches!(session.poll_action(), Some(Action::Authenticate { .. })));
    session.handle_answer(Answer::Authenticated(Ok(Grant::open())), Time::ZERO);
    assert_eq!(said(&mut session), ["hello", "degraded redis 5"]);
}

#[test]
fn an_outage_is_no_news_after_the_last_word() {
    let mut session = greeted();
    session.close(Close::new(CloseCode::Restart, ""));
    session.handle_broker_state(DOWN);
    assert_eq!(said(&mut session), ["close"]);
}

/// A change of the presence of a channel.
fn change(name: &str) -> Arc<Batch> {
    Arc::new(Batch::new(channel(name).presence(), None, vec![publication(0)]))
}

fn command(session: &mut Session, command: Command) -> Option<Action> {
    session.handle_command(Some(1), command);
    session.poll_action()
}

fn subscribe(name: &str, presence: bool) -> Command {
    Command::Subscribe(SubscribeCommand { presence, ..SubscribeCommand::new(channel(name), None) })
}

/// A session that hears who comes and goes on `a`, and on `b` does not.
fn listener() -> Session {
    let mut session = session(CatchUp::ByClient);
    for (name, heard) in [("a", true), ("b", false)] {
        let action = command(&mut session, subscribe(name, heard));
        assert!(matches!(action, Some(Action::Join { presence, .. }) if presence == heard));
        session.handle_batch(&change(name));
        session.handle_answer(Answer::Joined(Ok(Some(page("a.3", None)))), Time::ZERO);
    }
    assert_eq!(said(&mut session), ["hello", "subscribed a", "subscribed b"], "no change before its reply");
    session
}

#[test]
fn changes_of_presence_are_passed_on_to_those_who_asked_for_them() {
    let mut session = listener();
    session.handle_batch(&change("a"));
    session.handle_batch(&change("b"));
    assert_eq!(said(&mut session), ["batch $presence:a"]);
    assert!(matches!(
        command(&mut session, Command::Unsubscribe { channel: channel("a") }),
        Some(Action::Leave { .. })
    ));
    session.handle_answer(Answer::Left, Time::ZERO);
    session.handle_batch(&change("a"));
    assert_eq!(said(&mut session), ["unsubscribed a"]);
}

#[test]
fn a_publication_without_a_position_in_a_channel_that_has_some_is_a_gap_where_the_session_stands() {
    let mut session = stream();
    join(&mut session, page("a.3", None));
    join(&mut session, page("a.5", None));
    while session.poll_transmit().is_some() {}
    let with = batch("a", 4);
    session.handle_batch(&Arc::new(Batch::new(channel("a"), None, with.publications.clone())));
    let Some(Transmit::Frame(said)) = session.poll_transmit() else { panic!("it is told") };
    let Frame::Gap(gap) = &said.frame else { panic!("{said:?}") };
    assert_eq!((gap.reason, gap.position.as_ref().unwrap().to_string()), (GapReason::Lost, "a.3".into()));
    session.handle_batch(&with);
    assert!(matches!(session.poll_transmit(), Some(Transmit::Batch { .. })), "and goes on there");
}

#[test]
fn changes_of_presence_that_did_not_arrive_are_said_to_be_lost() {
    let mut session = listener();
    session.handle_forgotten(&channel("a").presence(), GapReason::Lost);
    assert_eq!(said(&mut session), ["presence lost a"]);
    session.handle_batch(&change("a"));
    assert_eq!(said(&mut session), ["batch $presence:a"]);
}

#[test]
fn a_grant_that_is_narrowed_ends_changes_or_the_whole_subscription() {
    let a = || vec![Pattern::parse("a").unwrap()];
    let expires = Some(Expiry { at: Time(Duration::from_secs(60)), exp: 60 });
    for (subscribe, presence, words, left) in [
        (a(), a(), "unsubscribed b", vec!["b"]),
        (a(), vec![], "unsubscribed b, presence channel_not_allowed a", vec!["b", "$presence:a"]),
        (vec![], a(), "unsubscribed a, unsubscribed b", vec!["a", "b"]),
    ] {
        let mut session = listener();
        let refresh = Command::Refresh { token: "".into() };
        session.handle_command(None, refresh);
        assert!(matches!(session.poll_action(), Some(Action::Authenticate { .. })));
        let grant = Grant { subscribe, presence, expires, ..Grant::default() };
        session.handle_answer(Answer::Authenticated(Ok(grant)), Time::ZERO);
        assert_eq!(said(&mut session).join(", "), words);
        for name in left {
            let action = session.poll_action();
            assert!(
                matches!(&action, Some(Action::Leave { channel }) if channel.as_str() == name),
                "{action:?}"
            );
            session.handle_answer(Answer::Left, Time::ZERO);
        }
        session.handle_batch(&change("a"));
        assert_eq!(said(&mut session).is_empty(), words != "unsubscribed b");
    }
}

#[test]
fn hearing_of_presence_counts_as_a_subscription() {
    let mut session = listener();
    for name in ["c", "d", "e", "f"] {
        assert!(command(&mut session, subscribe(name, false)).is_some());
        session.handle_answer(Answer::Joined(Ok(None)), Time::ZERO);
    }
    said(&mut session);
    assert!(command(&mut session, subscribe("g", true)).is_none());
    assert_eq!(said(&mut session), ["limit_reached"]);
    assert!(command(&mut session, subscribe("g", false)).is_some());
}
