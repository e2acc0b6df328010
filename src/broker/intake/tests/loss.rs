//! What cannot be read, what is of another kind, and what is lost more than once.

use super::*;

#[test]
fn an_announcement_that_cannot_be_read_is_a_loss_of_its_channel_alone() {
    let mut intake = live();
    let volatile = Retention { publications_max: 0, ..retention() };
    for name in ["v", "w"] {
        intake.listen(&channel(name), 1, &volatile);
        intake.handle_listening(&channel(name));
    }
    assert_eq!(told(&mut intake), ["listening 1", "listening 1"]);
    intake.handle_unreadable(&channel("v"));
    assert_eq!(told(&mut intake), ["lost"]);
    assert!(intake.poll_read().is_none(), "no other channel is looked at");
    intake.handle_unreadable(&channel("c"));
    intake.handle_unreadable(&channel("c"));
    answer(&mut intake, Some("a.10"), page("a.10", 11, 11, None));
    assert_eq!(told(&mut intake), ["a.11"]);
    assert!(intake.poll_read().is_none(), "one read is enough");
}

/// In a rolling change of `history_size` between none and some, instances disagree about what a channel is.
#[test]
fn a_publication_of_an_instance_that_keeps_another_history_is_never_dropped_without_a_word() {
    let mut intake = live();
    let without = Arc::new(Publication { offset: None, ..Publication::clone(&publication(11)) });
    intake.handle_publication(&channel("c"), None, without, at(0));
    announce(&mut intake, "a", 11);
    assert_eq!(told(&mut intake), ["-", "a.11"], "sessions tell a gap, and go on");
    intake.listen(&channel("v"), 1, &Retention { publications_max: 0, ..retention() });
    intake.handle_listening(&channel("v"));
    intake.handle_publication(&channel("v"), Epoch::parse("a").ok(), publication(3), at(0));
    assert_eq!(told(&mut intake), ["listening 1", "a.3"]);
    assert_eq!(intake.foreign(), 2);
}

#[test]
fn a_channel_that_waits_to_be_read_is_read_once_however_often_something_is_lost() {
    let mut intake = live();
    for _ in 0..3 {
        intake.handle_lag();
        intake.handle_doubt();
        announce(&mut intake, "a", 20);
    }
    assert_eq!(intake.reads.len(), 1);
    answer(&mut intake, Some("a.10"), page("a.10", 20, 20, None));
    assert!(intake.poll_read().is_none());
    intake.handle_lag();
    assert_eq!(intake.reads.len(), 1, "and again once that is done");
}
