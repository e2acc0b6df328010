use super::*;
use crate::freshness::{Snapshot, VersionTable};

const NOW: Time = Time::ZERO;
const ONE: SessionId = SessionId(1);

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn at(position: &str) -> Position {
    position.parse().unwrap()
}

fn snapshot(position: &str, lineage: &str, touched: &[(&str, u64)]) -> Snapshot {
    let mut table = VersionTable::new(1 << 16);
    touched.iter().for_each(|(name, offset)| table.touch(&tag(name), Offset(*offset)));
    Snapshot { position: at(position), lineage: lineage.parse().unwrap(), table }
}

/// A log with one watcher, and what it was told.
struct Scene {
    log: Log<u64>,
    told: Vec<String>,
}

impl Scene {
    /// A log that stands at `position`; the watcher watches `tags` since nothing.
    fn at(position: &str, tags: &[&str]) -> Scene {
        let mut scene = Scene { log: Log::new(100), told: Vec::new() };
        scene.snapshot(snapshot(position, "", &[]));
        scene.watch(None, tags);
        scene
    }

    fn watch(&mut self, since: Option<&str>, tags: &[&str]) -> Watched {
        let group = WatchGroup {
            since: since.map(at),
            except: None,
            tags: tags.iter().map(|name| tag(name)).collect(),
        };
        let allowance = Allowance { granted: &[tag("*")], tags_max: 100 };
        self.log.watch(ONE, &1, &[group], allowance).unwrap()
    }

    fn stale(&mut self, since: &str, tags: &[&str]) -> Vec<String> {
        self.watch(Some(since), tags).stale.iter().map(Tag::to_string).collect()
    }

    fn with(&mut self, act: impl FnOnce(&mut Log<u64>, Tell<'_, u64>)) {
        let told = &mut self.told;
        act(&mut self.log, &mut |_, _, news| {
            told.push(match news {
                News::Touched { tag, offset, .. } => format!("{tag} {offset}"),
                News::Continued(from) => format!("continued {from}"),
                News::Reset { .. } => "reset".to_owned(),
                News::Confirmed(ping) => format!("confirmed {ping}"),
            });
        });
    }

    fn event(&mut self, position: &str, tags: &[&str]) {
        let Position { epoch, offset } = at(position);
        let event = Event { offset, tags: tags.iter().map(|name| tag(name)).collect(), key: None };
        self.with(|log, tell| {
            log.handle_event(epoch, event, tell);
        });
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        assert_eq!(self.log.poll_need(NOW), Some(Need::Snapshot));
        self.with(|log, tell| log.handle_snapshot(Ok(snapshot), NOW, tell));
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// A ping, and the question that it leads to.
    fn ping(&mut self, ping: u64, now: Time) -> u64 {
        self.log.handle_ping(ONE, 1, ping);
        match self.log.poll_need(now) {
            Some(Need::Confirm(ticket)) => ticket,
            other => panic!("{other:?} is needed"),
        }
    }

    fn confirm(&mut self, ticket: u64, head: &str) {
        let head = at(head);
        self.with(|log, tell| log.handle_confirmed(ticket, Ok(head), NOW, tell));
    }

    /// The next mutation that is to be written again.
    fn rewrite_begun(&mut self) -> String {
        let need = self.log.poll_need(NOW);
        let Some(Need::Write(rewrite)) = need else { panic!("{need:?} instead of a write") };
        format!("{:?} {}", rewrite.tags, rewrite.key)
    }

    /// The next mutation that is to be written again; it is.
    fn rewrite(&mut self, to: &str) -> String {
        let rewrite = self.rewrite_begun();
        self.log.handle_rewritten(Ok(at(to)), NOW);
        rewrite
    }
}

#[test]
fn mutations_are_told_in_order_and_once() {
    let mut scene = Scene::at("a.4", &["t:1", "t:*"]);
    scene.event("a.5", &["t:1"]);
    scene.event("a.5", &["t:1"]);
    scene.event("a.6", &["x"]);
    assert_eq!(scene.told(), ["t:1 5", "t:* 5"]);
    assert_eq!(scene.log.position(), Some(at("a.6")));
}

#[test]
fn a_hole_is_made_good_by_a_snapshot() {
    let mut scene = Scene::at("a.4", &["t", "u"]);
    scene.event("a.7", &["u"]);
    scene.event("a.8", &["t"]);
    assert_eq!(scene.told(), [""; 0], "nothing that comes after a hole is told before it");
    scene.snapshot(snapshot("a.7", "", &[("t", 5), ("u", 7)]));
    assert_eq!(scene.told(), ["t 5", "u 7", "t 8"]);
    assert_eq!(scene.log.poll_need(NOW), None);
}

#[test]
fn a_loss_that_is_only_announced_is_made_good_likewise() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.log.handle_lost();
    scene.snapshot(snapshot("a.5", "", &[("t", 5)]));
    assert_eq!(scene.told(), ["t 5"]);
}

#[test]
fn an_own_mutation_does_not_count_where_everything_between_is_known_word_for_word() {
    let mut scene = Scene { log: Log::new(3), told: Vec::new() };
    scene.snapshot(snapshot("b.10", "a.6", &[("t", 5)]));
    for (offset, names) in [(11, ["t:1", "t:1"]), (12, ["t:1", "t:2"]), (13, ["u", "u"])] {
        scene.event(&format!("b.{offset}"), &names);
    }
    let check = |scene: &Scene, rows: &[(&str, &str, &str, bool)]| {
        for (since, except, name, is_stale) in rows {
            let group =
                WatchGroup { since: Some(at(since)), except: Some(at(except)), tags: vec![tag(name)] };
            assert_eq!(scene.log.is_stale(&group), Some(*is_stale), "{name} since {since} but for {except}");
        }
    };
    check(
        &scene,
        &[
            ("b.11", "b.12", "t:1", false),
            ("b.10", "b.12", "t:1", true),
            ("b.10", "b.11", "t:1", true),
            ("b.10", "b.12", "t:2", false),
            ("b.10", "b.12", "t:*", true),
            ("b.11", "b.12", "t:*", false),
            ("b.11", "b.12", "*", true),
            ("b.12", "b.13", "*", false),
            ("b.12", "b.12", "u", true),
            ("b.12", "b.99", "u", true),
            ("a.6", "b.12", "t:2", true),
            ("b.11", "a.12", "t:1", true),
            ("b.11", "z.12", "t:1", true),
            ("b.13", "b.14", "u", false),
        ],
    );
    scene.event("b.14", &["v"]);
    check(&scene, &[("b.11", "b.12", "t:1", false)]);
    scene.event("b.15", &["v"]);
    check(&scene, &[("b.11", "b.12", "t:1", true), ("b.12", "b.13", "u", false)]);
    scene.log.handle_lost();
    scene.snapshot(snapshot("b.16", "a.6", &[("u", 13)]));
    check(&scene, &[("b.12", "b.13", "u", true)]);
}

#[test]
fn how_many_read_again_is_known_by_who_watches_or_by_everybody_where_nothing_means_anything() {
    let mut scene = Scene::at("a.4", &["t", "u"]);
    let group = WatchGroup { since: None, except: None, tags: vec![tag("t")] };
    let allowance = Allowance { granted: &[tag("*")], tags_max: 100 };
    for session in 2..5 {
        scene.log.watch(SessionId(session), &session, std::slice::from_ref(&group), allowance).unwrap();
    }
    scene.event("a.5", &["t", "u"]);
    assert_eq!(scene.watch(Some("a.4"), &["t"]).watchers, 4);
    assert_eq!(scene.watch(Some("a.4"), &["u"]).watchers, 1);
    assert_eq!(scene.watch(Some("a.5"), &["t"]).watchers, 0);
    assert_eq!(scene.watch(Some("z.5"), &["u"]).watchers, 4);
}

#[test]
fn a_watch_is_told_what_was_touched_since_its_basis() {
    let mut scene = Scene { log: Log::new(2), told: Vec::new() };
    let allowance = Allowance { granted: &[tag("*")], tags_max: 100 };
    assert_eq!(scene.log.watch(ONE, &1, &[], allowance), None, "nothing is known yet");
    scene.snapshot(snapshot("b.10", "a.6", &[("t", 5), ("u", 9)]));
    for (offset, name) in [(11, "v"), (12, "w"), (13, "x")] {
        scene.event(&format!("b.{offset}"), &[name]);
    }
    let all = ["t", "u", "v", "w", "x", "y"];
    for (since, stale) in [
        ("b.13", vec![]),
        ("b.99", all.to_vec()),
        ("b.11", vec!["w", "x"]),
        ("b.10", vec!["v", "w", "x"]),
        ("b.8", vec!["u", "v", "w", "x"]),
        ("a.6", vec!["u", "v", "w", "x"]),
        ("a.60", vec!["u", "v", "w", "x"]),
        ("a.4", vec!["t", "u", "v", "w", "x"]),
        ("c.20", all.to_vec()),
    ] {
        assert_eq!(scene.stale(since, &all), stale, "since {since}");
    }
}

#[test]
fn a_ping_is_confirmed_by_a_head_that_was_asked_after_it_and_is_reached() {
    let mut scene = Scene::at("a.4", &["t"]);
    let ticket = scene.ping(7, NOW);
    scene.log.handle_ping(ONE, 1, 8);
    scene.confirm(ticket, "a.5");
    assert_eq!(scene.told(), [""; 0], "the head is not reached");
    scene.event("a.5", &["t"]);
    assert_eq!(scene.told(), ["t 5", "confirmed 7"], "8 came after the question");
    let later = NOW.after(Duration::from_millis(100));
    let ticket = scene.ping(9, later);
    scene.confirm(ticket, "a.5");
    assert_eq!(scene.told(), ["confirmed 9"]);
}

#[test]
fn a_head_that_does_not_arrive_is_asked_for() {
    let mut scene = Scene::at("a.4", &["t"]);
    let ticket = scene.ping(7, NOW);
    scene.confirm(ticket, "a.5");
    let later = NOW.after(Duration::from_secs(3));
    assert_eq!(scene.log.poll_timeout(), Some(later));
    scene.log.handle_timeout(later);
    scene.snapshot(snapshot("a.5", "", &[("t", 5)]));
    assert_eq!(scene.told(), ["t 5", "confirmed 7"]);
}

#[test]
fn an_old_answer_does_not_confirm_a_later_question() {
    let mut scene = Scene::at("a.4", &["t"]);
    let ticket = scene.ping(7, NOW);
    scene.event("b.5", &["t"]);
    scene.snapshot(snapshot("b.5", "a.4", &[("t", 5)]));
    let later = NOW.after(Duration::from_millis(100));
    let second = scene.ping(8, later);
    scene.told();
    scene.confirm(ticket, "b.5");
    assert_eq!(scene.told(), [""; 0]);
    scene.confirm(second, "b.5");
    assert_eq!(scene.told(), ["confirmed 8"]);
}

#[test]
fn a_numbering_that_goes_on_continues_and_what_it_lost_is_written_again_before_anything_is_confirmed() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.event("a.5", &["x"]);
    scene.event("a.6", &["t", "u"]);
    scene.log.handle_acknowledged(&at("a.7"), [tag("v")].into());
    scene.log.handle_acknowledged(&at("a.6"), [tag("t")].into());
    scene.told();
    scene.event("b.6", &["y"]);
    scene.log.handle_ping(ONE, 1, 3);
    scene.snapshot(snapshot("b.6", "a.5", &[("y", 6)]));
    assert_eq!(scene.told(), ["continued a.5"]);
    assert_eq!(scene.rewrite("b.7"), r#"["t", "u"] again:a.6"#);
    assert_eq!(scene.rewrite("b.8"), r#"["v"] again:a.7"#);
    let Some(Need::Confirm(ticket)) = scene.log.poll_need(NOW) else { panic!("a ping waits") };
    scene.confirm(ticket, "b.8");
    scene.event("b.7", &["t", "u"]);
    scene.event("b.8", &["v"]);
    assert_eq!(scene.told(), ["t 7", "confirmed 3"]);
}

#[test]
fn what_is_lost_and_no_longer_held_counts_as_everything() {
    let mut scene = Scene { log: Log::new(1), told: Vec::new() };
    scene.snapshot(snapshot("a.4", "", &[]));
    scene.event("a.5", &["x"]);
    scene.event("a.6", &["t"]);
    scene.log.handle_lost();
    scene.snapshot(snapshot("b.4", "a.4", &[]));
    assert_eq!(scene.rewrite("b.5"), r#"["*"] again:a.4-6"#);
    assert_eq!(scene.log.poll_need(NOW), None);
}

/// One was left behind with a primary that was deposed, and went on writing there.
#[test]
fn who_knew_more_of_what_is_lost_than_others_writes_what_is_no_repetition_of_theirs() {
    let rewrite = |last: &[u64]| {
        let mut scene = Scene { log: Log::new(1), told: Vec::new() };
        scene.snapshot(snapshot("a.4", "", &[]));
        last.iter().for_each(|offset| scene.event(&format!("a.{offset}"), &["t"]));
        scene.log.handle_lost();
        scene.snapshot(snapshot("b.2", "a.2", &[]));
        scene.rewrite("b.3")
    };
    assert_eq!(rewrite(&[5, 6]), r#"["*"] again:a.2-6"#);
    assert_eq!(rewrite(&[5, 6]), rewrite(&[5, 6]), "written once");
    assert_eq!(rewrite(&[5, 6, 7]), r#"["*"] again:a.2-7"#);
}

#[test]
fn where_more_is_acknowledged_than_is_held_and_then_lost_everything_counts_as_touched() {
    let mut scene = Scene::at("a.4", &["t"]);
    let last = 5 + WAITING_MAX as u64;
    (5..=last)
        .for_each(|offset| scene.log.handle_acknowledged(&at(&format!("a.{offset}")), [tag("t")].into()));
    scene.log.handle_lost();
    scene.snapshot(snapshot("b.4", "a.4", &[]));
    assert_eq!(scene.rewrite("b.5"), format!(r#"["*"] again:a.4-4+a.{last}"#));
}

#[test]
fn what_is_written_again_may_be_lost_again_before_it_is_announced() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.log.handle_acknowledged(&at("a.5"), [tag("t")].into());
    scene.log.handle_lost();
    scene.snapshot(snapshot("b.4", "a.4", &[]));
    assert_eq!(scene.rewrite("b.5"), r#"["t"] again:a.5"#);
    scene.log.handle_lost();
    scene.snapshot(snapshot("c.4", "a.4 b.4", &[]));
    assert_eq!(scene.rewrite("c.5"), r#"["t"] again:b.5"#);
    scene.event("c.5", &["t"]);
    scene.told();
    scene.log.handle_lost();
    scene.snapshot(snapshot("d.5", "a.4 b.4 c.5", &[("t", 5)]));
    assert_eq!(scene.log.poll_need(NOW), None, "now it is there");
}

#[test]
fn what_was_acknowledged_in_a_numbering_that_this_instance_never_saw_is_written_again() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.log.handle_acknowledged(&at("b.4"), [tag("kept")].into());
    scene.log.handle_acknowledged(&at("b.6"), [tag("t")].into());
    scene.log.handle_lost();
    scene.snapshot(snapshot("c.5", "a.4 b.5", &[]));
    assert_eq!(scene.rewrite("c.6"), r#"["t"] again:b.6"#);
    assert_eq!(scene.log.poll_need(NOW), None);
}

/// A primary that was deposed, or that died with all its last writes, had begun a numbering of which the next one knows nothing.
#[test]
fn numberings_that_both_continue_a_third_go_on_from_where_they_part() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.event("b.6", &["x"]);
    scene.snapshot(snapshot("b.6", "a.5", &[("x", 6)]));
    scene.event("b.7", &["t"]);
    scene.told();
    scene.log.handle_lost();
    scene.snapshot(snapshot("c.6", "a.4", &[("u", 6)]));
    assert_eq!(scene.told(), ["continued b.4"]);
    assert_eq!(scene.rewrite("c.7"), r#"["*"] again:b.4-7"#);
    scene.log.handle_lost();
    scene.snapshot(snapshot("a.9", "", &[]));
    assert_eq!(scene.told(), ["reset"], "an older numbering goes on: nothing is known of it");
}

#[test]
fn a_numbering_that_goes_on_where_everybody_was_loses_nothing() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.event("b.6", &["x"]);
    scene.snapshot(snapshot("b.6", "a.5", &[("t", 5)]));
    assert_eq!(scene.told(), ["continued a.4", "t 5"]);
    assert_eq!(scene.log.poll_need(NOW), None);
}

#[test]
fn a_numbering_that_follows_from_nothing_resets() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.event("b.1", &["x"]);
    scene.snapshot(snapshot("b.1", "", &[("x", 1)]));
    assert_eq!(scene.told(), ["reset"]);
    assert_eq!(scene.stale("a.4", &["t"]), ["t"]);
}

/// A primary was deposed and took mutations for a while, when elsewhere a numbering had begun that follows from nothing: values were read there
/// before them, and are none the older for it.
#[test]
fn a_numbering_that_follows_from_nothing_is_told_what_was_written_since_the_last_confirmation() {
    let mut scene = Scene::at("a.4", &["t"]);
    let ticket = scene.ping(7, NOW);
    scene.confirm(ticket, "a.4");
    scene.event("a.5", &["t"]);
    scene.told();
    scene.event("b.9", &["x"]);
    scene.snapshot(snapshot("b.9", "", &[("x", 9)]));
    assert_eq!(scene.told(), ["reset"]);
    assert_eq!(scene.rewrite("b.10"), r#"["t"] again:a.5"#);
    assert_eq!(scene.log.poll_need(NOW), None);
}

#[test]
fn a_numbering_that_follows_from_nothing_is_told_that_everything_was_touched_where_nothing_was_confirmed() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.event("b.9", &["x"]);
    scene.snapshot(snapshot("b.9", "", &[("x", 9)]));
    assert_eq!(scene.rewrite("b.10"), r#"["*"] again:a.0-4"#);
}

/// Somebody flushed a primary just before its replica, which had not heard of it, took over.
#[test]
fn a_numbering_that_goes_on_from_elsewhere_resets_and_everything_counts_as_touched() {
    let mut scene = Scene::at("b.4", &["t"]);
    scene.event("c.9", &["x"]);
    scene.snapshot(snapshot("c.9", "a.8", &[("x", 9)]));
    assert_eq!(scene.told(), ["reset"]);
    assert_eq!(scene.rewrite("c.10"), r#"["*"] again:b.0-4"#);
}

#[test]
fn what_fails_is_tried_again_after_a_while() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.log.handle_lost();
    assert_eq!(scene.log.poll_need(NOW), Some(Need::Snapshot));
    assert_eq!(scene.log.poll_need(NOW), None, "one at a time");
    scene.with(|log, tell| log.handle_snapshot(Err(()), NOW, tell));
    assert_eq!(scene.log.poll_need(NOW), None);
    let later = NOW.after(RETRY_AFTER);
    assert_eq!(scene.log.poll_timeout(), Some(later));
    assert_eq!(scene.log.poll_need(later), Some(Need::Snapshot));
}

#[test]
fn nothing_is_due_while_an_answer_is_waited_for() {
    let mut scene = Scene::at("a.4", &["t"]);
    scene.log.handle_ping(ONE, 1, 7);
    assert_eq!(scene.log.poll_timeout(), Some(NOW));
    scene.log.handle_lost();
    assert_eq!(scene.log.poll_need(NOW), Some(Need::Snapshot));
    assert_eq!(scene.log.poll_timeout(), None, "the ping waits for the snapshot");
    scene.with(|log, tell| log.handle_snapshot(Ok(snapshot("b.4", "a.3", &[])), NOW, tell));
    assert_eq!(scene.rewrite_begun(), r#"["*"] again:a.3-4"#);
    assert_eq!(scene.log.poll_timeout(), None, "and for what is written again");
    scene.log.handle_rewritten(Err(()), NOW);
    assert_eq!(scene.log.poll_timeout(), Some(NOW.after(RETRY_AFTER)));
}

#[test]
fn what_is_not_granted_is_denied_and_what_does_not_fit_is_watched_by_a_granted_subtree() {
    let mut log: Log<u64> = Log::new(10);
    log.poll_need(NOW);
    log.handle_snapshot(Ok(snapshot("a.4", "", &[])), NOW, &mut |_, _, _| {});
    let granted = [tag("a:*"), tag("b")];
    let allowance = Allowance { granted: &granted, tags_max: 2 };
    let mut watch = |names: &[&str]| {
        let group =
            WatchGroup { since: None, except: None, tags: names.iter().map(|name| tag(name)).collect() };
        let Watched { denied, escalated, .. } = log.watch(ONE, &1, &[group], allowance).unwrap();
        format!("denied {denied:?}, escalated {escalated:?}")
    };
    assert_eq!(watch(&["c", "a:1:x"]), r#"denied ["c"], escalated []"#);
    assert_eq!(watch(&["a:1:y", "a:1:z", "a:1:z"]), r#"denied [], escalated ["a:1:*"]"#);
    assert_eq!(watch(&["b", "a:2", "a:1:z"]), r#"denied [], escalated ["a:*"]"#);
    assert_eq!(watch(&["*"]), r#"denied ["*"], escalated []"#);
    assert_eq!(log.narrow(ONE, &[tag("b")]), [tag("a:*")]);
    log.forget(ONE);
    assert_eq!(log.watches(), 0);
}
