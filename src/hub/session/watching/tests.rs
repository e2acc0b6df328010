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
    let watched = Watched { at: at(position), stale: vec![], denied: vec![], escalated: vec![] };
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
fn the_reply_to_watch_is_not_older_than_what_was_said_before_it() {
    let mut session = session(CatchUp::ByClient);
    watch(&mut session, &["t"]);
    assert_eq!(
        told(&mut session, news("a.6", &[("t", 6)])),
        ["{invalidated:{at:{epoch:a,offset:6},tags:{t:6}}}"]
    );
    watched(&mut session, "a.5");
    assert_eq!(
        said(&mut session),
        ["{id:1,watched:{at:{epoch:a,offset:6},stale:[],denied:[],escalated:[]}}"]
    );
    watch(&mut session, &["u"]);
    told(&mut session, LogNews { continued: Some(at("a.6")), ..news("b.7", &[]) });
    watched(&mut session, "a.6");
    assert_eq!(
        said(&mut session),
        ["{id:1,watched:{at:{epoch:b,offset:7},stale:[],denied:[],escalated:[]}}"]
    );
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
    let reset = LogNews { reset: true, ..news("b.1", &[]) };
    assert_eq!(told(&mut session, reset), ["{reset:{scope:all,at:{epoch:b,offset:1},reason:epoch}}"]);
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
    let watched = Watched { at: at("a.4"), stale: vec![], denied, escalated: vec![] };
    session.handle_answer(Answer::Watched(Ok(watched)), Time::ZERO);
    assert_eq!(
        said(&mut session),
        ["{id:1,watched:{at:{epoch:a,offset:4},stale:[],denied:[t:1,u],no_room:[t:1],escalated:[]}}"]
    );
}
