use super::*;

const LIFE: Duration = Duration::from_secs(20);

fn seconds(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn room(number: u64) -> Channel {
    Channel::parse(&format!("room:{number}")).unwrap()
}

fn member(session: u64) -> PresenceMember {
    PresenceMember { user: "ada".into(), session: session.to_string().into(), since: 5 }
}

/// Every update that is due now, as "room:7 +1 -2".
fn updates(roster: &mut Roster, told: bool, now: Time) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(update) = roster.poll_update() {
        let here = update.here.iter().map(|member| format!(" +{}", member.session));
        let gone = update.gone.iter().map(|(member, _)| format!(" -{}", member.session));
        texts.push(format!("{}{}", update.channel, here.chain(gone).collect::<String>()));
        roster.handle_updated(update, told, now);
    }
    texts
}

#[test]
fn who_comes_and_goes_is_told_at_once_and_in_one_step_for_each_channel() {
    let mut roster = Roster::new(LIFE);
    for (channel, session) in [(7, 1), (7, 2), (8, 1)] {
        roster.enter(&room(channel), member(session), seconds(0));
    }
    roster.exit(&room(7), "2", seconds(0));
    assert!(!roster.exit(&room(7), "9", seconds(0)), "it never came");
    assert_eq!(updates(&mut roster, true, seconds(0)), ["room:7 +1 -2", "room:8 +1"]);
    assert!(updates(&mut roster, true, seconds(1)).is_empty());
}

#[test]
fn members_are_renewed_four_times_in_their_life_until_they_go() {
    let mut roster = Roster::new(LIFE);
    roster.enter(&room(7), member(1), seconds(0));
    roster.enter(&room(7), member(2), seconds(2));
    updates(&mut roster, true, seconds(2));
    for renewal in [5, 10, 15] {
        assert_eq!(roster.poll_timeout(), Some(seconds(renewal)));
        roster.handle_timeout(seconds(renewal));
        assert_eq!(updates(&mut roster, true, seconds(renewal)), ["room:7 +1 +2"]);
    }
    roster.exit(&room(7), "1", seconds(16));
    roster.exit(&room(7), "2", seconds(16));
    assert_eq!(updates(&mut roster, true, seconds(16)), ["room:7 -1 -2"]);
    roster.handle_timeout(seconds(20));
    assert!(updates(&mut roster, true, seconds(20)).is_empty() && roster.channels.is_empty());
    assert_eq!(roster.poll_timeout(), None);
}

#[test]
fn what_could_not_be_told_is_told_later_as_it_is_then() {
    let mut roster = Roster::new(LIFE);
    for session in 1..=3 {
        roster.enter(&room(7), member(session), seconds(0));
    }
    updates(&mut roster, true, seconds(0));
    roster.exit(&room(7), "1", seconds(1));
    roster.exit(&room(7), "2", seconds(1));
    assert_eq!(updates(&mut roster, false, seconds(1)), ["room:7 -1 -2"]);
    roster.enter(&room(7), member(2), seconds(1));
    roster.enter(&room(7), member(4), seconds(1));
    assert_eq!(roster.poll_update(), None, "a broker that failed has a rest");
    roster.handle_timeout(seconds(2));
    let lost = roster.poll_update().unwrap();
    roster.exit(&room(7), "4", seconds(2));
    assert_eq!(roster.poll_update(), None, "one update of a channel at a time");
    roster.handle_updated(lost, false, seconds(2));
    roster.handle_timeout(seconds(3));
    assert_eq!(updates(&mut roster, true, seconds(3)), ["room:7 +2 -4 -1"]);
}

#[test]
fn who_went_during_a_long_outage_is_not_told_once_the_broker_has_forgotten_it() {
    let mut roster = Roster::new(LIFE);
    roster.enter(&room(7), member(1), seconds(0));
    updates(&mut roster, true, seconds(0));
    roster.exit(&room(7), "1", seconds(1));
    for second in 1..=21 {
        roster.handle_timeout(seconds(second));
        assert_eq!(updates(&mut roster, false, seconds(second)), ["room:7 -1"], "{second}");
    }
    roster.handle_timeout(seconds(22));
    assert!(updates(&mut roster, true, seconds(22)).is_empty());
    assert!(roster.channels.is_empty());
}

#[test]
fn an_update_is_bounded_and_the_rest_follows() {
    let mut roster = Roster::new(LIFE);
    for session in 0..600 {
        roster.enter(&room(7), member(session), seconds(0));
    }
    let mut told = Vec::new();
    while let Some(update) = roster.poll_update() {
        told.push(update.here.len());
        roster.handle_updated(update, true, seconds(0));
    }
    assert_eq!(told, [256, 256, 88]);
}

#[test]
fn members_that_always_come_do_not_keep_others_from_being_renewed() {
    const RENEWED: usize = 10;
    let mut roster = Roster::new(LIFE);
    for number in 0..RENEWED as u64 {
        roster.enter(&room(number), member(1), seconds(0));
    }
    updates(&mut roster, true, seconds(0));
    roster.handle_timeout(seconds(5));
    let mut renewed = 0;
    for number in 0..2 * RENEWED as u64 {
        // Somebody new for each update that the broker has time for.
        roster.enter(&room(100 + number), member(1), seconds(5));
        let update = roster.poll_update().expect("something is due");
        renewed += usize::from(update.channel.as_str().len() < "room:100".len());
        roster.handle_updated(update, true, seconds(5));
    }
    assert_eq!(renewed, RENEWED, "by turns");
    assert_eq!(updates(&mut roster, true, seconds(5)).len(), RENEWED, "nor are those kept waiting for long");
}
