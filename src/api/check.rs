//! Freshness without a connection: whether tags were touched, and where a log stands.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use tidings_protocol::{Code, Position, Problem, WatchGroup, log_of, tags_of};

use super::access::Asker;
use super::body::utf8;
use super::options::Options;
use super::{ApiError, read_body};
use crate::hub::Grant;
use crate::instance::Instance;

/// `POST /v1/check`, as it is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    ns: Option<String>,
    items: Vec<CheckItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckItem {
    since: Position,
    /// A mutation after `since` that the value reflects.
    except: Option<Position>,
    tags: Vec<String>,
}

/// `POST /v1/check`, as it is answered.
#[derive(Serialize)]
pub(super) struct Checked {
    at: Position,
    /// Indices of the items of which a tag was touched since, or of which nobody can say that it was not.
    stale: Vec<usize>,
}

/// `POST /v1/check`
pub(super) async fn check(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    request: Request,
) -> Result<Json<Checked>, ApiError> {
    let options = Options::of_question(request.uri(), request.headers())?;
    let bytes_max = instance.limits.load().request_bytes_max;
    let body = read_body(&instance, &asker.caller, request, bytes_max).await?;
    instance.recheck(&asker.grant)?;
    let body: CheckBody = serde_json::from_str(utf8(&body)?).map_err(|error| {
        let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
        Problem::new(code, format!("the question cannot be read: {error}"))
    })?;
    if let (Some(query), Some(named)) = (&options.ns, &body.ns)
        && query != named
    {
        let message = format!("`ns` is {query:?} in the query and {named:?} in the body");
        return Err(Problem::new(Code::BadRequest, message).into());
    }
    let log = log_of(options.ns.as_deref().or(body.ns.as_deref()), Code::BadRequest)?;
    let items_max = instance.limits.load().request_items_max;
    if body.items.len() > items_max {
        let message = format!("a request holds at most {items_max} items");
        return Err(Problem::new(Code::TooManyItems, message).into());
    }
    let tags_max = instance.limits.load().tags_per_event_max;
    let items = body.items.iter().map(|item| watch_group(item, tags_max, &asker.grant));
    asker.charge(&instance, body.items.iter().map(|item| item.tags.len()).sum())?;
    let items = items.collect::<Result<_, _>>()?;
    demand_tags(&asker.grant)?;
    let (at, stale) = instance.node.check(log, items, &asker.caller).await?;
    Ok(Json(Checked { at, stale }))
}

/// Refuses whoever has no right to any tag: where a log stands is none of its business.
fn demand_tags(grant: &Grant) -> Result<(), Problem> {
    match grant.watch.is_empty() && grant.mutate.is_empty() {
        true => {
            let message = "the credential allows to watch and to mutate nothing";
            Err(Problem::new(Code::TagNotAllowed, message))
        }
        false => Ok(()),
    }
}

fn watch_group(item: &CheckItem, tags_max: usize, grant: &Grant) -> Result<WatchGroup, Problem> {
    if item.tags.len() > tags_max {
        let message = format!("an item has at most {tags_max} tags, this one has {}", item.tags.len());
        return Err(Problem::new(Code::TooManyItems, message));
    }
    let tags = tags_of(&item.tags)?;
    match tags.iter().find(|tag| !grant.may_watch(tag)) {
        Some(tag) => {
            let message = format!("the credential does not allow to ask after the tag {tag}");
            Err(Problem::new(Code::TagNotAllowed, message))
        }
        None => Ok(WatchGroup { since: Some(item.since.clone()), except: item.except.clone(), tags }),
    }
}

/// `GET /v1/position`
#[derive(Serialize)]
pub(super) struct LogPosition {
    position: Position,
}

/// `GET /v1/position?ns=`: a basis for a read that begins when the answer is there.
pub(super) async fn position(
    State(instance): State<Arc<Instance>>,
    asker: Asker,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<LogPosition>, ApiError> {
    demand_tags(&asker.grant)?;
    let ns = Options::of_question(&uri, &headers)?.ns;
    let log = log_of(ns.as_deref(), Code::BadRequest)?;
    Ok(Json(LogPosition { position: instance.node.position(&log, &asker.caller).await? }))
}
