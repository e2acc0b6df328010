use tidings_protocol::{decode_frame, encode_command};

use super::*;

const HELLO: &str = r#"{"hello":{"session":"s","ping_interval_ms":5000,"timeout_ms":60000,"batch_ms":100,"lease_ms":15000,"message_bytes_max":1000000}}"#;

fn conversation(since: Option<&str>) -> Conversation {
    let channel = Channel::parse("t").unwrap();
    Conversation::new(vec![channel], since.map(|since| since.parse().unwrap()))
}

/// What each frame comes to, a word or command for every step.
fn hear(conversation: &mut Conversation, frames: &[&str]) -> Vec<String> {
    let decoded = |frame: &&str| decode_frame(frame).expect(frame).expect("is of this version");
    let steps = frames.iter().flat_map(|frame| conversation.handle_frame(decoded(frame)));
    steps.map(shown).collect()
}

fn shown(step: Step) -> String {
    match step {
        Step::Say(id, command) => encode_command(id, &command),
        Step::Up => "up".to_owned(),
        Step::Show(Shown { epoch, publication, .. }) => {
            let epoch = epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
            format!("{epoch}.{}", publication.offset.map_or("-".to_owned(), |offset| offset.to_string()))
        }
        Step::Gap(gap) => {
            format!(
                "gap {} {}",
                gap.reason.as_str(),
                gap.position.map_or("-".to_owned(), |at| at.to_string())
            )
        }
        Step::Degraded(frame) => format!("degraded {} {}", frame.component, frame.since),
        Step::Restored(frame) => format!("restored {}", frame.component),
        Step::End(End::Refused(words)) => format!("refused {words}"),
        Step::End(End::Cut { why, .. }) => format!("cut {why}"),
        Step::End(End::Counted) => "counted".to_owned(),
    }
}

fn subscribe(id: u64, since: Option<(&str, u64)>) -> String {
    let since = since.map_or(String::new(), |(epoch, offset)| {
        format!(r#","since":{{"epoch":"{epoch}","offset":{offset}}}"#)
    });
    format!(r#"{{"id":{id},"subscribe":{{"channel":"t"{since}}}}}"#)
}

fn history(id: u64, offset: u64) -> String {
    format!(r#"{{"id":{id},"history":{{"channel":"t","since":{{"epoch":"a","offset":{offset}}}}}}}"#)
}

/// `subscribed` up to `offset` of epoch a, with what was missed.
fn subscribed(id: u64, offset: u64, rest: &str) -> String {
    format!(
        r#"{{"id":{id},"subscribed":{{"channel":"t","position":{{"epoch":"a","offset":{offset}}},{rest}}}}}"#
    )
}

fn batch(epoch: &str, first: u64, last: u64) -> String {
    let publications = vec![r#"{"data":1,"time":1}"#; (last - first + 1) as usize].join(",");
    format!(
        r#"{{"batch":{{"channel":"t","epoch":"{epoch}","first":{first},"last":{last},"publications":[{publications}]}}}}"#
    )
}

const NOTHING_MISSED: &str = r#""more":false,"publications":[]"#;
const RECOVERED: &str = r#""recovered":true,"more":false,"publications":[]"#;

#[test]
fn what_comes_live_is_shown_once_and_in_order() {
    let mut conversation = conversation(None);
    assert_eq!(hear(&mut conversation, &[HELLO]), [subscribe(1, None)]);
    assert_eq!(conversation.idle(), Duration::from_secs(20));
    assert_eq!(hear(&mut conversation, &[&subscribed(1, 2, NOTHING_MISSED)]), ["up"]);
    let batches = [batch("a", 3, 4), batch("a", 4, 5), batch("a", 5, 5)];
    let batches: Vec<&str> = batches.iter().map(String::as_str).collect();
    assert_eq!(hear(&mut conversation, &batches), ["a.3", "a.4", "a.5"]);
}

#[test]
fn after_a_cut_the_position_is_where_it_goes_on() {
    let mut conversation = conversation(None);
    hear(&mut conversation, &[HELLO, &subscribed(1, 2, NOTHING_MISSED), &batch("a", 3, 3)]);
    assert!(conversation.handle_disconnected().is_empty());
    assert_eq!(
        hear(&mut conversation, &[&batch("a", 4, 4)]),
        [""; 0],
        "nothing counts before it is asked for"
    );
    assert_eq!(hear(&mut conversation, &[HELLO]), [subscribe(2, Some(("a", 3)))]);
    let missed = r#""recovered":true,"more":false,"publications":[{"data":1,"time":1,"offset":4}]"#;
    assert_eq!(
        hear(&mut conversation, &[&subscribed(2, 4, missed), &batch("a", 4, 5)]),
        ["up", "a.4", "a.5"]
    );
}

#[test]
fn a_long_recovery_is_read_page_by_page() {
    let mut conversation = conversation(Some("a.1"));
    assert_eq!(hear(&mut conversation, &[HELLO]), [subscribe(1, Some(("a", 1)))]);
    let page = r#""recovered":true,"more":true,"publications":[{"data":1,"time":1,"offset":2}]"#;
    assert_eq!(hear(&mut conversation, &[&subscribed(1, 2, page)]), ["up", "a.2", &history(2, 2)]);
    let page = |id: u64, offset: u64, more: bool| {
        format!(
            r#"{{"id":{id},"history":{{"publications":[{{"data":1,"time":1,"offset":{offset}}}],"position":{{"epoch":"a","offset":{offset}}},"more":{more}}}}}"#
        )
    };
    assert_eq!(hear(&mut conversation, &[&page(2, 3, true)]), ["a.3".to_owned(), history(3, 3)]);
    assert_eq!(hear(&mut conversation, &[&page(9, 9, false)]), [""; 0], "nobody asked");
    assert_eq!(hear(&mut conversation, &[&page(3, 4, false), &batch("a", 5, 5)]), ["a.4", "a.5"]);
}

#[test]
fn what_cannot_be_resumed_is_a_gap() {
    let mut conversation = conversation(Some("a.1"));
    let not_recovered = r#""recovered":false,"more":false,"publications":[]"#;
    let gap = r#"{"gap":{"channel":"t","reason":"trimmed","position":{"epoch":"a","offset":9}}}"#;
    let frames = [HELLO, &subscribed(1, 9, not_recovered), gap, &batch("a", 10, 10)];
    let expected = [&subscribe(1, Some(("a", 1))), "up", "gap trimmed a.9", "a.10"];
    assert_eq!(hear(&mut conversation, &frames), expected);
}

#[test]
fn a_channel_without_history_has_a_gap_after_every_cut() {
    let mut conversation = conversation(None);
    let subscribed =
        |id| format!(r#"{{"id":{id},"subscribed":{{"channel":"t","position":null,{NOTHING_MISSED}}}}}"#);
    let batch = r#"{"batch":{"channel":"t","publications":[{"data":1,"time":1}]}}"#;
    assert_eq!(hear(&mut conversation, &[HELLO, &subscribed(1), batch])[1..], ["up", "-.-"]);
    conversation.handle_disconnected();
    assert_eq!(hear(&mut conversation, &[HELLO, &subscribed(2), batch])[1..], ["up", "gap lost -", "-.-"]);
}

#[test]
fn a_hole_is_asked_for_once_and_what_follows_waits() {
    let mut conversation = conversation(None);
    hear(&mut conversation, &[HELLO, &subscribed(1, 2, NOTHING_MISSED)]);
    let leave = r#"{"unsubscribe":{"channel":"t"}}"#;
    let frames = [batch("a", 4, 4), batch("a", 5, 5)];
    let again = hear(&mut conversation, &[&frames[0], &frames[1]]);
    assert_eq!(again, [leave.to_owned(), subscribe(2, Some(("a", 2)))]);
    let missed = r#""recovered":true,"more":false,"publications":[{"data":1,"time":1,"offset":3},{"data":1,"time":1,"offset":5}]"#;
    assert_eq!(hear(&mut conversation, &[&subscribed(2, 5, missed)]), ["up", "a.3", "a.5"]);
}

#[test]
fn a_subscription_that_the_credential_made_is_made_again_where_the_reader_is() {
    let mut conversation = conversation(Some("a.1"));
    let granted = format!(
        r#"{{"subscribed":{{"channel":"t","position":{{"epoch":"a","offset":9}},{NOTHING_MISSED}}}}}"#
    );
    let refused = |id| {
        format!(r#"{{"id":{id},"error":{{"code":"already_subscribed","message":"m","retryable":false}}}}"#)
    };
    assert_eq!(hear(&mut conversation, &[HELLO, &granted, &batch("a", 10, 10)]).len(), 1);
    let again = hear(&mut conversation, &[&refused(1)]);
    assert_eq!(again, [r#"{"unsubscribe":{"channel":"t"}}"#.to_owned(), subscribe(2, Some(("a", 1)))]);
    let refused_again = hear(&mut conversation, &[&refused(2)]);
    assert_eq!(refused_again, ["refused already_subscribed: m"], "once, and not for ever");
}

#[test]
fn new_numbers_without_loss_are_no_gap() {
    let mut conversation = conversation(None);
    let continued = r#"{"continued":{"channel":"t","from":{"epoch":"a","offset":2},"position":{"epoch":"b","offset":2}}}"#;
    let frames = [HELLO, &subscribed(1, 2, NOTHING_MISSED), continued, &batch("b", 3, 3)];
    assert_eq!(hear(&mut conversation, &frames)[1..], ["up", "b.3"]);
}

#[test]
fn what_the_server_lost_and_got_back_is_shown_and_ends_nothing() {
    let mut conversation = conversation(None);
    let degraded = r#"{"degraded":{"component":"redis","since":5}}"#;
    let restored = r#"{"restored":{"component":"redis"}}"#;
    let frames = [HELLO, degraded, &subscribed(1, 2, NOTHING_MISSED), restored, &batch("a", 3, 3)];
    assert_eq!(hear(&mut conversation, &frames)[1..], ["degraded redis 5", "up", "restored redis", "a.3"]);
}

#[test]
fn the_servers_no_is_final_and_its_troubles_pass() {
    for (frame, expected) in [
        (
            r#"{"id":1,"error":{"code":"channel_not_allowed","message":"m","retryable":false}}"#,
            "refused channel_not_allowed: m",
        ),
        (
            r#"{"id":1,"error":{"code":"limit_reached","message":"m","retryable":true}}"#,
            "refused limit_reached: m",
        ),
        (
            r#"{"id":1,"error":{"code":"broker_unavailable","message":"m","retryable":true}}"#,
            "cut broker_unavailable: m",
        ),
        (
            r#"{"id":1,"error":{"code":"token_expired","message":"m","retryable":true}}"#,
            "refused token_expired: m",
        ),
        (
            r#"{"disconnect":{"code":4501,"reason":"unauthorized: m","reconnect":false}}"#,
            "refused unauthorized: m",
        ),
    ] {
        let mut conversation = conversation(None);
        assert_eq!(hear(&mut conversation, &[HELLO, frame])[1..], [expected]);
    }
    let mut conversation = conversation(None);
    let ended = r#"{"unsubscribed":{"channel":"t","code":"channel_not_allowed"}}"#;
    let steps = hear(&mut conversation, &[HELLO, &subscribed(1, 2, RECOVERED), ended]);
    assert!(steps[2].starts_with("refused channel_not_allowed: the subscription to t ended"), "{steps:?}");
}

#[test]
fn the_server_says_how_long_to_stay_away() {
    let mut conversation = conversation(None);
    let disconnect = r#"{"disconnect":{"code":1012,"reason":"draining","reconnect":true,"after_ms":1200}}"#;
    assert_eq!(hear(&mut conversation, &[HELLO, disconnect]).len(), 1);
    assert_eq!(conversation.take_pause(), Some(Duration::from_millis(1_200)));
    assert_eq!(conversation.take_pause(), None);
}

#[test]
fn frames_about_channels_that_nobody_asked_for_are_nothing() {
    let mut conversation = conversation(None);
    hear(&mut conversation, &[HELLO, &subscribed(1, 2, NOTHING_MISSED)]);
    let other = |frame: &str| frame.replace(r#""channel":"t""#, r#""channel":"other""#);
    let gap = r#"{"gap":{"channel":"other","reason":"lost","position":null}}"#;
    let frames = [other(&subscribed(1, 5, NOTHING_MISSED)), other(&batch("a", 9, 9)), gap.to_owned()];
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    assert_eq!(hear(&mut conversation, &frames), [""; 0]);
}
