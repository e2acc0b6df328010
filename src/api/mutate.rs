//! What was changed, over HTTP: mutations, and tags alone.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use sha2::{Digest, Sha256};
use tidings_protocol::{
    Ack, Code, Invalidation, MutateCommand, Mutations, Problem, PublishCommand, PublishedFrame, Tag,
    decode_invalidation, decode_mutations, log_of, tags_of,
};

use super::access::Asker;
use super::body::utf8;
use super::cloud_event::{Envelope, mutations_of};
use super::options::Options;
use super::publish::answer;
use super::{ApiError, quota, read_body};
use crate::instance::Instance;
use crate::limits::Count;

/// `POST /v1/mutations`: one, or several that are one event of the log; as such or as CloudEvents.
pub(super) async fn mutations(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::of_mutation(&request)?;
    let envelope = Envelope::of(request.headers())?;
    let body = read_body(&instance, &asker.caller, request, instance.limits.load().request_bytes_max).await?;
    let mutations = match envelope {
        None => decode_mutations(utf8(&body)?, options.ns.as_deref())?,
        Some(envelope) => mutations_of(envelope.open(&body)?, options.ns)?,
    };
    asker.charge(&instance, mutations.events.len())?;
    let command = MutateCommand {
        tags: tags_for(&instance, &mutations)?,
        said: mutations.said(),
        idempotency_key: key_of(&mutations).or(options.idempotency_key),
        ack: options.ack.unwrap_or_else(|| default_ack(&instance)),
        log: mutations.log,
    };
    answer(mutate(&instance, &asker, command).await)
}

/// `POST /v1/invalidate`: tags that were touched.
pub(super) async fn invalidate(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::of_mutation(&request)?;
    let body = read_body(&instance, &asker.caller, request, instance.limits.load().request_bytes_max).await?;
    let invalidation = decode_invalidation(utf8(&body)?, options.ns.as_deref())?;
    invalidate_tags(&instance, &asker, invalidation, options).await
}

/// `POST /v1/invalidate/{tag}`: one tag that was touched; a body says nothing.
pub(super) async fn invalidate_one(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    tag: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::of_mutation(&request)?;
    let Path(tag) = tag.map_err(|rejection| Problem::new(Code::TagInvalid, rejection.body_text()))?;
    let log = log_of(options.ns.as_deref(), Code::BadRequest)?;
    let invalidation = Invalidation { log, idempotency_key: None, tags: tags_of(&[tag])? };
    invalidate_tags(&instance, &asker, invalidation, options).await
}

async fn invalidate_tags(
    instance: &Instance,
    asker: &Asker,
    invalidation: Invalidation,
    options: Options,
) -> Result<Response, ApiError> {
    check_tags(&invalidation.tags, instance.limits.load().tags_per_event_max)?;
    let command = MutateCommand {
        said: invalidation.said(),
        idempotency_key: invalidation.idempotency_key.map(Arc::from).or(options.idempotency_key),
        ack: options.ack.unwrap_or_else(|| default_ack(instance)),
        tags: BTreeSet::from_iter(invalidation.tags).into_iter().collect(),
        log: invalidation.log,
    };
    answer(mutate(instance, asker, command).await)
}

/// What all of the mutations touch, each tag once.
fn tags_for(instance: &Instance, mutations: &Mutations) -> Result<Vec<Tag>, Problem> {
    let limits = instance.limits.load();
    if mutations.events.len() > limits.request_items_max {
        let message = format!("a request holds at most {} mutations", limits.request_items_max);
        return Err(Problem::new(Code::TooManyItems, message));
    }
    let rules = instance.rules.borrow().clone();
    let mut tags = BTreeSet::new();
    for mutation in &mutations.events {
        check_tags(&mutation.tags, limits.tags_per_event_max)?;
        tags.extend(rules.tags_for(mutation)?);
        if tags.len() > limits.mutation_tags_max {
            let message = format!(
                "what one request changes touches at most {} tags: send fewer mutations at once",
                limits.mutation_tags_max
            );
            return Err(Problem::new(Code::TooManyItems, message));
        }
    }
    Ok(tags.into_iter().collect())
}

fn check_tags(tags: &[Tag], tags_max: usize) -> Result<(), Problem> {
    match tags.len() <= tags_max {
        true => Ok(()),
        false => {
            let message = format!("an event has at most {tags_max} tags, this one has {}", tags.len());
            Err(Problem::new(Code::TooManyItems, message))
        }
    }
}

/// What makes a retry of the request the same request: its key, or those of its mutations.
fn key_of(mutations: &Mutations) -> Option<Arc<str>> {
    if let Some(key) = &mutations.idempotency_key {
        return Some(key.as_str().into());
    }
    let keys = mutations.events.iter().filter_map(|mutation| mutation.idempotency_key.as_deref());
    let keys: Vec<&str> = keys.collect();
    match keys.as_slice() {
        [] => None,
        [key] => Some((*key).into()),
        // Any number of keys has to fit into one.
        keys => {
            let hash = Sha256::digest(keys.join("\n").as_bytes());
            let hex = hash.iter().fold("events:".to_owned(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("a string takes everything");
                hex
            });
            Some(hex.into())
        }
    }
}

/// An acknowledged mutation that is lost leaves values stale: where there are replicas, they have it.
fn default_ack(instance: &Instance) -> Ack {
    let redis = &instance.config.redis;
    match redis.url.is_some() && redis.replicas > 0 {
        true => Ack::Replicated,
        false => Ack::Stored,
    }
}

async fn mutate(
    instance: &Instance,
    asker: &Asker,
    command: MutateCommand,
) -> Result<PublishedFrame, Problem> {
    // The body, or the items before this one, may have taken their time.
    instance.recheck(&asker.grant)?;
    if let Some(tag) = command.tags.iter().find(|tag| !asker.grant.may_mutate(tag)) {
        let message = format!("the credential does not allow to mutate the tag {tag}");
        return Err(Problem::new(Code::TagNotAllowed, message));
    }
    let key_bytes = command.idempotency_key.as_ref().map_or(1, |key| key.len());
    if !(1..=PublishCommand::NAME_BYTES_MAX).contains(&key_bytes) {
        let most = PublishCommand::NAME_BYTES_MAX;
        let message = format!("`idempotency_key` has 1 to {most} bytes, this one has {key_bytes}");
        return Err(Problem::new(Code::BadRequest, message));
    }
    quota::note(instance.admit(&asker.caller, Count::Mutations, 1))?;
    let tags = command.tags.len();
    let published = instance.node.mutate(command, &asker.caller).await?;
    instance.metrics.mutated(tags);
    Ok(published.into())
}
