//! What every broker does alike: the same rows over memory, over a real Redis, and over the simulation's model of one, so
//! that the model cannot lie; then what Redis goes through, a real one and the model alike.
//!
//! Rows beside those of all, and where they apply:
//!
//! | row | memory | Redis | with a replica | model |
//! |---|---|---|---|---|
//! | `replicated_is_refused` | yes | yes | no: it is done | yes |
//! | `nobody_listens_in_the_end` | no: it announces everything | yes | as without | yes |
//! | "replicated" is answered | no: it is refused | no: it is refused | yes | no: its replica confirms nothing |
//! | a failover, a restart | no: it has neither | yes | yes | yes |
//! | a primary is demoted | no: it is none | yes | as without | no: none of its servers is a replica for a while |

mod databases;
mod empty;
mod listening;
mod log_faults;
mod logs;
mod members;
mod model;
mod numbering;
mod publishing;
mod reading;
mod scene;
mod subject;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tidings_protocol::Ack;

use crate::simulation::Bug;
use crate::support::RedisServer;
use model::ModelSubject;
use subject::{BrokerSubject, Subject};

/// The namespaces that the rows use: a channel called `few:a` keeps three publications.
const NAMESPACES: &str = "
[namespace.few]
history_size = 3
[namespace.small]
history_bytes = 1500
[namespace.brief]
history_age = \"300ms\"
[namespace.volatile]
history_size = 0
";

/// Some defects of the model show themselves by chance.
const SEEDS_MAX: u64 = 20;

/// All rows, on channels of their own.
async fn all_rows(subject: &mut impl Subject) {
    publishing::positions_are_given_one_by_one(subject).await;
    publishing::a_key_makes_a_retry_the_same_publication(subject).await;
    publishing::levels_of_acknowledgement(subject).await;
    publishing::a_volatile_channel_has_no_positions_and_knows_its_keys(subject).await;
    reading::what_is_kept_is_bounded(subject).await;
    reading::a_page_begins_after_a_position_and_ends_at_its_limits(subject).await;
    reading::what_cannot_be_continued_is_a_gap_with_its_reason(subject).await;
    reading::channels_are_listed_with_their_heads(subject).await;
    listening::what_is_published_is_announced_in_order(subject).await;
    listening::interest_is_what_was_said_last(subject).await;
    listening::who_listens_resumes_to_the_head(subject).await;
    logs::a_log_begins_empty(subject).await;
    logs::a_mutation_touches_the_slots_of_its_tags_alone(subject).await;
    logs::a_mutation_of_many_tags_is_one_event(subject).await;
    logs::a_key_makes_a_retry_the_same_mutation(subject).await;
    logs::what_is_acknowledged_is_confirmed(subject).await;
    logs::mutations_are_announced_in_order(subject).await;
    logs::the_history_of_a_log_folds_into_its_table(subject).await;
    logs::a_log_that_is_forgotten_has_another_numbering_and_an_empty_table(subject).await;
    empty::what_is_published_first_is_in_the_numbering_that_was_read_before(subject).await;
    empty::who_was_there_before_everything_was_lost_is_told_of_it(subject).await;
    reading::numberings_are_never_used_again(subject).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let mut subject = BrokerSubject::memory(NAMESPACES);
    all_rows(&mut subject).await;
    publishing::replicated_is_refused(&mut subject).await;
    logs::replicated_mutations_are_refused(&mut subject).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let server = RedisServer::start("").await;
    let mut subject = BrokerSubject::redis(&server, NAMESPACES).await;
    all_rows(&mut subject).await;
    publishing::replicated_is_refused(&mut subject).await;
    logs::replicated_mutations_are_refused(&mut subject).await;
    listening::nobody_listens_in_the_end(&mut subject).await;
}

#[tokio::test]
async fn the_model_of_redis_keeps_the_contract() {
    let mut subject = ModelSubject::new(NAMESPACES);
    all_rows(&mut subject).await;
    publishing::replicated_is_refused(&mut subject).await;
    logs::replicated_mutations_are_refused(&mut subject).await;
    listening::nobody_listens_in_the_end(&mut subject).await;
}

#[tokio::test]
async fn a_model_that_lies_is_found_out() {
    for bug in [Bug::DuplicateOnRetry, Bug::EpochForgotten, Bug::AckBeforeStore, Bug::OffsetReused] {
        let mut seed = 0;
        loop {
            let mut subject = ModelSubject::with_bug(NAMESPACES, seed, Some(bug));
            if AssertUnwindSafe(all_rows(&mut subject)).catch_unwind().await.is_err() {
                break;
            }
            seed += 1;
            assert!(seed < SEEDS_MAX, "no row sees {bug:?}");
        }
    }
}

#[tokio::test]
async fn redis_with_a_replica_keeps_the_contract() {
    let [server, replica] = [RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&server).await;
    let with_replicas = format!("{NAMESPACES}[redis]\nreplicas = 1\n");
    let mut subject = BrokerSubject::redis(&server, &with_replicas).await;
    all_rows(&mut subject).await;
    let published =
        subject.publish("replicated", "1", None, Ack::Replicated).await.expect("a replica confirms");
    assert_eq!(published.ack, Ack::Replicated);
}

#[tokio::test]
async fn logs_have_positions_where_channels_have_none() {
    let volatile = "[namespace.default]\nhistory_size = 0\n";
    let server = RedisServer::start("").await;
    logs::the_history_of_a_log_folds_into_its_table(&mut BrokerSubject::memory(volatile)).await;
    logs::the_history_of_a_log_folds_into_its_table(&mut BrokerSubject::redis(&server, volatile).await).await;
}
