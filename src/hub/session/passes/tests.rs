use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Envelope, GapReason, Position, Revocation, Revoked, encode_frame};

use super::*;
use crate::hub::session::tests::session;
use crate::hub::{Answer, CatchUp, Credential, CursorState, Expiry, Grant, Page, Pattern, Transmit};

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn pass(name: &str, user: &str, until: u64) -> ChannelGrant {
    let credential = Credential::Token { id: Some(format!("for-{name}").into()), issued: Some(1) };
    let expires = Expiry { at: at(until), exp: until };
    ChannelGrant { channel: channel(name), user: user.into(), credential, expires }
}

/// A session of ada, whose credential grants `own` until `until`.
fn ada(catch_up: CatchUp, until: u64) -> Session {
    let mut session = session(catch_up);
    let credential = Credential::Token { id: Some("own".into()), issued: Some(1) };
    let expires = Some(Expiry { at: at(until), exp: until });
    let subscribe = vec![Pattern::parse("own").unwrap()];
    session.grant = Grant { user: "ada".into(), credential, expires, subscribe, ..Grant::default() };
    said(&mut session);
    session
}

/// What is to be said, by the names of frames and what they say of codes.
fn said(session: &mut Session) -> Vec<String> {
    let transmits = std::iter::from_fn(|| session.poll_transmit());
    let text = |transmit| match transmit {
        Transmit::Frame(envelope) => {
            let Envelope { id, frame } = *envelope;
            let text = String::from_utf8(encode_frame(&Envelope { id, frame })).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let (name, body) = value.as_object().unwrap().iter().find(|(name, _)| *name != "id").unwrap();
            let words = [&body["channel"], &body["code"]].into_iter().filter_map(|word| word.as_str());
            words.fold(name.clone(), |said, word| format!("{said} {word}"))
        }
        Transmit::Close(close) => format!("close {}", close.code.slug()),
        other => format!("{other:?}"),
    };
    transmits.map(text).collect()
}

fn subscribe(session: &mut Session, name: &str, token: Option<&str>) -> Option<Action> {
    let token = token.map(TokenText::from);
    let command = SubscribeCommand { token, ..SubscribeCommand::new(channel(name), None) };
    session.handle_command(Some(1), Command::Subscribe(command));
    session.poll_action()
}

fn page() -> Page {
    let from: Position = "a.3".parse().unwrap();
    Page { publications: Vec::new(), head: from.offset, from, gap: None }
}

/// Subscribes by a token that holds until `until`.
fn subscribed(session: &mut Session, name: &str, until: u64) {
    assert!(matches!(subscribe(session, name, Some("t")), Some(Action::Admit { token }) if &*token == "t"));
    session.handle_answer(Answer::Admitted(Ok(pass(name, "ada", until))), at(0));
    assert!(matches!(session.poll_action(), Some(Action::Join { channel, .. }) if channel.as_str() == name));
    session.handle_answer(Answer::Joined(Ok(Some(page()))), at(0));
    assert_eq!(said(session), [format!("subscribed {name}")]);
}

#[test]
fn a_token_is_checked_before_its_subscription_begins() {
    let mut session = ada(CatchUp::ByClient, 1_000);
    subscribed(&mut session, "room", 60);
    assert!(subscribe(&mut session, "room", Some("t")).is_none(), "it is held, whatever the token says");
    assert_eq!(said(&mut session), ["error already_subscribed"]);
    assert!(session.has_pass(&channel("room")));
    for (answer, code) in [
        (Err(Code::Unauthorized.into()), "unauthorized"),
        (Err(Code::TokenExpired.into()), "token_expired"),
        (Ok(pass("other", "ada", 60)), "channel_not_allowed"),
        (Ok(pass("hall", "bob", 60)), "unauthorized"),
        (Ok(pass("hall", "", 60)), "unauthorized"),
        (Ok(pass("hall", "ada", 0)), "channel_not_allowed"),
    ] {
        assert!(matches!(subscribe(&mut session, "hall", Some("t")), Some(Action::Admit { .. })));
        session.handle_answer(Answer::Admitted(answer), at(0));
        assert!(session.poll_action().is_none());
        assert_eq!(said(&mut session), [format!("error {code}")]);
        assert!(!session.has_pass(&channel("hall")) && !session.has_pass(&channel("other")));
    }
}

#[test]
fn a_subscription_that_does_not_come_about_leaves_no_token_behind() {
    let mut session = ada(CatchUp::ByClient, 1_000);
    subscribe(&mut session, "room", Some("t"));
    session.handle_answer(Answer::Admitted(Ok(pass("room", "ada", 60))), at(0));
    assert!(matches!(session.poll_action(), Some(Action::Join { .. })));
    session.handle_answer(Answer::Joined(Err(Code::BrokerUnavailable.into())), at(0));
    assert_eq!(said(&mut session), ["error broker_unavailable"]);
    assert!(subscribe(&mut session, "room", None).is_none());
    assert_eq!(said(&mut session), ["error channel_not_allowed"]);
    for number in 0..8 {
        subscribed(&mut session, &format!("room{number}"), 60);
    }
    subscribe(&mut session, "room", Some("t"));
    session.handle_answer(Answer::Admitted(Ok(pass("room", "ada", 60))), at(0));
    assert!(session.poll_action().is_none());
    assert_eq!(said(&mut session), ["error limit_reached"]);
    assert!(!session.has_pass(&channel("room")));
}

#[test]
fn a_subscription_ends_with_its_token_unless_it_is_granted_anyhow() {
    let mut session = ada(CatchUp::ByClient, 1_000);
    subscribed(&mut session, "room", 60);
    subscribed(&mut session, "own", 60);
    assert!(session.poll_timeout().is_some_and(|due| due <= at(60)));
    session.end_expired(at(59));
    assert_eq!(said(&mut session), Vec::<String>::new());
    session.end_expired(at(60));
    assert_eq!(said(&mut session), ["unsubscribed room token_expired"]);
    assert!(matches!(session.poll_action(), Some(Action::Leave { channel }) if channel.as_str() == "room"));
    session.handle_answer(Answer::Left, at(60));
    assert_eq!(session.channels().map(Channel::as_str).collect::<Vec<_>>(), ["own"]);
}

#[test]
fn a_stream_is_greeted_though_a_token_ends_while_its_channel_joins() {
    let wanted =
        vec![SubscribeCommand::new(channel("room"), None), SubscribeCommand::new(channel("own"), None)];
    let mut session = ada(CatchUp::ByServer, 1_000)
        .with_channels(wanted, Vec::new(), CursorState::None)
        .with_passes(vec![pass("room", "ada", 60)]);
    assert!(matches!(session.poll_action(), Some(Action::Join { .. })));
    session.end_expired(at(60));
    session.handle_answer(Answer::Joined(Ok(Some(page()))), at(60));
    assert!(matches!(session.poll_action(), Some(Action::Leave { channel }) if channel.as_str() == "room"));
    session.handle_answer(Answer::Left, at(60));
    assert!(matches!(session.poll_action(), Some(Action::Join { .. })));
    session.handle_answer(Answer::Joined(Ok(Some(page()))), at(60));
    assert_eq!(said(&mut session), ["hello", "unsubscribed room token_expired"]);
}

#[test]
fn what_is_read_until_the_end_is_not_passed_on_after_it() {
    let mut session = ada(CatchUp::ByClient, 60);
    subscribe(&mut session, "own", None);
    session.handle_answer(Answer::Joined(Ok(Some(page()))), at(0));
    said(&mut session);
    session.handle_forgotten(&channel("own"), GapReason::Overflow);
    assert!(matches!(session.poll_action(), Some(Action::Resume { .. })), "it reads what it missed");
    session.end_expired(at(60));
    let payload = tidings_protocol::Payload::text(b"x").unwrap();
    let offset = Some(tidings_protocol::Offset(4));
    let publication = tidings_protocol::Publication { offset, time: 0, id: None, key: None, payload };
    let more =
        Page { publications: vec![Arc::new(publication)], head: tidings_protocol::Offset(4), ..page() };
    session.handle_answer(Answer::Read(Ok(more)), at(60));
    assert_eq!(said(&mut session), ["error token_expired", "close token_expired"]);
}

#[test]
fn revocations_end_what_they_concern_and_nothing_else() {
    let revoke = |revoked| {
        let mut revocations = Revocations::new(10, 1_000);
        revocations.note(Revocation { revoked, at: 5 }, 5).unwrap();
        revocations
    };
    let token = |id: &str| Revoked::Token(id.into());
    for (revoked, words) in [
        (token("else"), vec![]),
        (Revoked::User("bob".into()), vec![]),
        (token("for-room"), vec!["unsubscribed room unauthorized"]),
        (token("own"), vec!["error unauthorized", "close unauthorized"]),
        (Revoked::User("ada".into()), vec!["error unauthorized", "close unauthorized"]),
    ] {
        let mut session = ada(CatchUp::ByClient, 1_000);
        subscribed(&mut session, "room", 60);
        session.handle_revocations(&revoke(revoked.clone()));
        assert_eq!(said(&mut session), words, "{revoked:?}");
    }
}

#[test]
fn whoever_was_let_in_without_a_credential_may_bring_one_once() {
    let mut session = session(CatchUp::ByClient);
    session.grant = Grant {
        credential: Credential::Anonymous,
        subscribe: vec![Pattern::parse("news").unwrap()],
        ..Grant::default()
    };
    said(&mut session);
    subscribe(&mut session, "news", None);
    session.handle_answer(Answer::Joined(Ok(Some(page()))), at(0));
    session.handle_command(Some(2), Command::Connect { token: "t".into() });
    assert!(matches!(session.poll_action(), Some(Action::Authenticate { .. })));
    let credential = Credential::Token { id: None, issued: None };
    let grant = Grant { user: "ada".into(), credential, ..Grant::default() };
    session.handle_answer(Answer::Authenticated(Ok(grant)), at(0));
    assert_eq!(said(&mut session), ["subscribed news", "unsubscribed news channel_not_allowed", "hello"]);
    assert!(matches!(session.poll_action(), Some(Action::Leave { .. })));
    session.handle_answer(Answer::Left, at(0));
    session.handle_command(Some(3), Command::Connect { token: "t".into() });
    assert!(session.poll_action().is_none());
    assert_eq!(said(&mut session), ["error bad_frame"]);
}
