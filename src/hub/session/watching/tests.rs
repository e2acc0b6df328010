use std::time::Duration;

use tidings_protocol::{Command, Envelope, WatchGroup, encode_frame};

use super::*;
use crate::hub::session::tests::session;
use crate::hub::{Answer, Expiry, Grant, Transmit};

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn at(position: &str) -> Position {
    position.parse().unwrap()
}

fn seconds(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

/// The frames that are to be said, without the quotes of JSON.
fn said(session: &mut Session) -> Vec<String> {
    let transmits = std::iter::from_fn(|| session.poll_transmit());
    let text = |transmit| match transmit {
        Transmit::Frame(envelope) => {
            let Envelope { id, frame } = *envelope;
            String::from_utf8(encode_frame(&Envelope { id, frame })).unwrap().replace('"', "")
        }
        other => format!("{other:?}"),
    };
    transmits.map(text).filter(|text| !text.starts_with("{hello")).collect()
}

fn watch(session: &mut Session, tags: &[&str]) {
    let groups =
        vec![WatchGroup { since: None, except: None, tags: tags.iter().map(|name| tag(name)).collect() }];
    session.handle_command(Some(1), Command::Watch(WatchCommand { log: LogName::default(), groups }));
    assert!(matches!(session.poll_action(), Some(Action::Watch { .. })));
}

fn watched(session: &mut Session, position: &str) {
    let watched = Watched::nothing(at(position));
    session.handle_answer(Answer::Watched(Ok(watched)), Time::ZERO);
}

/// A session that watches `t` since the log stood at a.4.
fn watcher(catch_up: CatchUp) -> Session {
    let mut session = session(catch_up);
    watch(&mut session, &["t"]);
    watched(&mut session, "a.4");
    said(&mut session);
    session
}

fn news(position: &str, touched: &[(&str, u64)]) -> LogNews {
    let mut news = LogNews::new(at(position));
    touched.iter().for_each(|(name, offset)| news.touch(&tag(name), Offset(*offset)));
    news
}

/// What the session says of the news.
fn told(session: &mut Session, news: LogNews) -> Vec<String> {
    session.handle_news(LogName::default(), news);
    said(session)
}

#[test]
fn what_was_touched_is_said_with_the_ping_that_it_confirms() {
    let mut session = watcher(CatchUp::ByClient);
    for c in [100, 200] {
        session.handle_command(None, Command::Ping { c });
    }
    assert_eq!(said(&mut session), ["{pong:{c:100}}", "{pong:{c:200}}"], "which is no lease");
    let Some(Action::Confirm { ping, .. }) = session.poll_action() else {
        panic!("both are to be confirmed")
    };
    session.handle_answer(Answer::Asked, Time::ZERO);
    let confirmed = LogNews { confirmed: Some(ping), ..news("a.5", &[("t", 5)]) };
    assert_eq!(told(&mut session, confirmed), ["{invalidated:{at:{epoch:a,offset:5},tags:{t:5},c:200}}"]);
    let confirmed = LogNews { confirmed: Some(1), ..news("a.6", &[]) };
    assert_eq!(told(&mut session, confirmed), ["{at:{position:{epoch:a,offset:6},c:100}}"]);
}

#[test]
fn nobody_is_asked_about_pings_of_a_client_that_watches_nothing() {
    let mut session = session(CatchUp::ByClient);
    session.handle_command(None, Command::Ping { c: 1 });
    said(&mut session);
    assert!(session.poll_action().is_none());
    assert!(
        told(&mut session, news("a.5", &[("t", 5)])).is_empty(),
        "and news of logs are none of its business"
    );
}

#[test]
fn only_the_last_of_several_frames_carries_the_confirmation() {
    let mut session = watcher(CatchUp::ByClient);
    session.handle_command(None, Command::Ping { c: 7 });
    said(&mut session);
    let names: Vec<String> = (0..TAGS_PER_FRAME + 1).map(|n| format!("t{n}")).collect();
    let touched: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 5)).collect();
    let frames = told(&mut session, LogNews { confirmed: Some(1), ..news("a.5", &touched) });
    let with_c: Vec<bool> = frames.iter().map(|frame| frame.contains(",c:7")).collect();
    assert_eq!(with_c, [false, true]);
}

#[test]
fn the_reply_to_watch_says_where_the_log_was_looked_at() {
    let mut session = session(CatchUp::ByClient);
    watch(&mut session, &["t"]);
    assert_eq!(
        told(&mut session, news("a.6", &[("t", 6)])),
        ["{invalidated:{at:{epoch:a,offset:6},tags:{t:6}}}"]
    );
    watched(&mut session, "a.5");
    let reply = |position| format!("{{id:1,watched:{{at:{position},stale:[],denied:[],escalated:[]}}}}");
    assert_eq!(said(&mut session), [reply("{epoch:a,offset:5}")]);
    assert_eq!(
        told(&mut session, LogNews { continued: Some(at("a.6")), ..news("b.7", &[]) }),
        ["{continued:{ns:default,from:{epoch:a,offset:6},position:{epoch:b,offset:6}}}"],
        "what was told is still known"
    );
    watch(&mut session, &["u"]);
    watched(&mut session, "b.9");
    assert_eq!(said(&mut session), [reply("{epoch:b,offset:9}")]);
}

#[test]
fn the_reply_to_watch_from_a_numbering_whose_end_was_told_is_asked_for_again() {
    let mut session = watcher(CatchUp::ByClient);
    watch(&mut session, &["u"]);
    told(&mut session, LogNews { continued: Some(at("a.4")), ..news("b.7", &[]) });
    watched(&mut session, "a.4");
    let answer = said(&mut session).concat();
    assert!(answer.contains("code:broker_unavailable") && answer.contains("retryable:true"), "{answer}");
    watch(&mut session, &["u"]);
    watched(&mut session, "c.1");
    let answer = said(&mut session).concat();
    assert!(answer.contains("watched:{at:{epoch:c,offset:1}"), "of one that is yet to be told: {answer}");
}

/// The logs that are to confirm a ping, and its number.
fn confirm(session: &mut Session) -> Option<(Vec<String>, u64)> {
    match session.poll_action()? {
        Action::Confirm { logs, ping } => {
            session.handle_answer(Answer::Asked, Time::ZERO);
            Some((logs.iter().map(ToString::to_string).collect(), ping))
        }
        other => panic!("{other:?}"),
    }
}

fn ask_to_watch(session: &mut Session, log: &str) {
    let (log, groups) = (LogName::parse(log).unwrap(), Vec::new());
    session.handle_command(Some(1), Command::Watch(WatchCommand { log, groups }));
}

#[test]
fn a_ping_that_comes_before_the_first_watch_or_with_it_is_confirmed_once_the_log_is_known() {
    for is_ping_first in [true, false] {
        let mut session = session(CatchUp::ByClient);
        if is_ping_first {
            session.handle_command(None, Command::Ping { c: 70 });
        }
        ask_to_watch(&mut session, "default");
        if !is_ping_first {
            session.handle_command(None, Command::Ping { c: 70 });
        }
        assert!(matches!(session.poll_action(), Some(Action::Watch { .. })), "nothing to confirm yet");
        watched(&mut session, "a.4");
        said(&mut session);
        let (logs, ping) = confirm(&mut session).expect("the ping is not forgotten");
        assert_eq!(logs, ["default"]);
        let confirmed = LogNews { confirmed: Some(ping), ..news("a.4", &[]) };
        assert_eq!(told(&mut session, confirmed), ["{at:{position:{epoch:a,offset:4},c:70}}"]);
        assert_eq!(confirm(&mut session), None, "once is enough");
    }
}

#[test]
fn a_ping_that_comes_with_the_watch_of_another_log_is_confirmed_by_both() {
    let mut session = watcher(CatchUp::ByClient);
    ask_to_watch(&mut session, "shop");
    session.handle_command(None, Command::Ping { c: 70 });
    assert_eq!(confirm(&mut session), Some((vec!["default".to_owned()], 1)));
    assert!(matches!(session.poll_action(), Some(Action::Watch { .. })));
    watched(&mut session, "s.2");
    assert_eq!(confirm(&mut session), Some((vec!["shop".to_owned()], 1)));
    assert_eq!(confirm(&mut session), None);
}

#[test]
fn only_the_last_of_several_frames_says_that_all_is_told() {
    let names: Vec<String> = (0..2 * TAGS_PER_FRAME + 1).map(|n| format!("t{n}")).collect();
    let touched: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 9)).collect();
    let ats = |news: LogNews| -> Vec<String> {
        let frames = told(&mut watcher(CatchUp::ByClient), news);
        let pieces = frames.iter().filter_map(|frame| frame.strip_prefix("{invalidated:{at:"));
        pieces.map(|piece| piece.split_inclusive('}').next().unwrap_or_default().to_owned()).collect()
    };
    let position = |epoch, offset| format!("{{epoch:{epoch},offset:{offset}}}");
    assert_eq!(ats(news("a.9", &touched)), [position("a", 4), position("a", 4), position("a", 9)]);
    let continued = LogNews { continued: Some(at("a.3")), ..news("b.9", &touched) };
    assert_eq!(ats(continued), [position("b", 3), position("b", 3), position("b", 9)]);
    assert_eq!(ats(news("c.9", &touched)), [position("c", 0), position("c", 0), position("c", 9)]);
}

#[test]
fn a_numbering_that_goes_on_does_so_from_where_the_client_is() {
    for (from, position) in [("a.9", 4), ("a.4", 4), ("a.3", 3)] {
        let mut session = watcher(CatchUp::ByClient);
        let news = LogNews { continued: Some(at(from)), ..news("b.12", &[("t", 11)]) };
        let continued = format!(
            "{{continued:{{ns:default,from:{{epoch:a,offset:{position}}},position:{{epoch:b,offset:{position}}}}}}}"
        );
        let invalidated = "{invalidated:{at:{epoch:b,offset:12},tags:{t:11}}}".to_owned();
        assert_eq!(told(&mut session, news), [continued, invalidated]);
    }
}

#[test]
fn a_reset_is_said() {
    let mut session = watcher(CatchUp::ByClient);
    let reset = LogNews { reset: true, spread_ms: 300, ..news("b.1", &[]) };
    assert_eq!(
        told(&mut session, reset),
        ["{reset:{scope:all,at:{epoch:b,offset:1},reason:epoch,spread_ms:300}}"]
    );
}

#[test]
fn a_narrower_credential_takes_watches_back() {
    let mut session = watcher(CatchUp::ByClient);
    session.handle_command(None, Command::Refresh { token: "".into() });
    assert!(matches!(session.poll_action(), Some(Action::Authenticate { .. })));
    let expires = Some(Expiry { at: seconds(60), exp: 60 });
    let grant = Grant { watch: vec![tag("u")], expires, ..Grant::default() };
    session.handle_answer(Answer::Authenticated(Ok(grant)), Time::ZERO);
    said(&mut session);
    let Some(Action::Narrow { granted, .. }) = session.poll_action() else {
        panic!("the log must hear of it")
    };
    assert_eq!(granted, [tag("u")]);
    session.handle_answer(Answer::Narrowed(vec![tag("t")]), Time::ZERO);
    assert_eq!(said(&mut session), ["{reset:{scope:tags,tags:[t],at:{epoch:a,offset:4},reason:auth}}"]);
}

#[test]
fn a_command_of_too_many_tags_is_refused() {
    let mut session = session(CatchUp::ByClient);
    let groups = vec![WatchGroup { since: None, except: None, tags: vec![tag("t"); 101] }];
    session.handle_command(Some(1), Command::Watch(WatchCommand { log: LogName::default(), groups }));
    assert!(session.poll_action().is_none());
    assert!(said(&mut session).concat().contains("too_many_items"));
}

#[test]
fn a_stream_pings_for_its_client_by_the_clients_clock_or_without_one() {
    for (clock, first, second, interval) in [(Some(1_000), ",c:1000", ",c:6000", 5), (None, "", "", 25)] {
        let mut session = session(CatchUp::ByServer);
        if let Some(c) = clock {
            session = session.with_clock(c, Time::ZERO);
        }
        watch(&mut session, &["t"]);
        watched(&mut session, "a.4");
        said(&mut session);
        for (expected, ping) in [(first, 1), (second, 2)] {
            assert!(
                matches!(session.poll_action(), Some(Action::Confirm { ping: asked, .. }) if asked == ping)
            );
            session.handle_answer(Answer::Asked, Time::ZERO);
            let confirmed = LogNews { confirmed: Some(ping), ..news("a.4", &[]) };
            assert_eq!(
                told(&mut session, confirmed),
                [format!("{{at:{{position:{{epoch:a,offset:4}}{expected}}}}}")]
            );
            assert!(session.poll_action().is_none());
            let next = seconds(interval * ping);
            assert!(session.poll_timeout().is_some_and(|at| at <= next));
            session.handle_timeout(next);
            said(&mut session);
        }
    }
}

#[test]
fn a_denied_tag_that_is_granted_is_one_for_which_there_is_no_room() {
    let mut session = session(CatchUp::ByClient);
    session.grant.watch = vec![tag("t:*")];
    watch(&mut session, &["t:1", "u"]);
    let denied = vec![tag("t:1"), tag("u")];
    let watched = Watched { denied, ..Watched::nothing(at("a.4")) };
    session.handle_answer(Answer::Watched(Ok(watched)), Time::ZERO);
    assert_eq!(
        said(&mut session),
        ["{id:1,watched:{at:{epoch:a,offset:4},stale:[],denied:[t:1,u],no_room:[t:1],escalated:[]}}"]
    );
}
