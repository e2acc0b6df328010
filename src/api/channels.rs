//! What channels there are, and what they hold.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use tidings_protocol::{Channel, Code, HistoryFrame, Position, PresenceMembers, Problem};

use super::ApiError;
use super::access::{Asker, Operator};
use crate::hub::PageLimit;
use crate::instance::Instance;

/// Channels that one answer lists at most.
const CHANNELS_LISTED_MAX: usize = 1_000;

/// The `{channel}` of a path, as axum could or could not read it.
pub(super) type ChannelPath = Result<Path<String>, PathRejection>;

/// The channel that a path names: one percent-encoded segment.
pub(super) fn channel_of(path: ChannelPath) -> Result<Channel, Problem> {
    let invalid = |why: String| Problem::new(Code::ChannelInvalid, why);
    let Path(name) = path.map_err(|rejection| invalid(rejection.body_text()))?;
    Channel::parse(&name).map_err(|error| invalid(error.to_string()))
}

/// `GET /v1/channels`
#[derive(Debug, Serialize)]
pub(super) struct ChannelList {
    channels: Vec<ChannelState>,
    /// Whether there are, or may be, channels that are not listed.
    more: bool,
}

#[derive(Debug, Serialize)]
struct ChannelState {
    channel: Channel,
    position: Option<Position>,
    subscribers: usize,
}

/// Channels with history or with subscribers on this instance, at most 1,000 of each.
pub(super) async fn list(
    State(instance): State<Arc<Instance>>,
    _: Operator,
) -> Result<Json<ChannelList>, ApiError> {
    let (held, subscribed) = instance.node.channels(CHANNELS_LISTED_MAX).await?;
    let more = held.more || subscribed.len() == CHANNELS_LISTED_MAX;
    let mut channels: Vec<ChannelState> = held
        .heads
        .into_iter()
        .map(|(channel, head)| ChannelState { channel, position: Some(head), subscribers: 0 })
        .collect();
    channels.sort_by(|a, b| a.channel.cmp(&b.channel));
    for (channel, subscribers) in subscribed {
        match channels.binary_search_by(|known| known.channel.cmp(&channel)) {
            Ok(index) => channels[index].subscribers = subscribers,
            Err(index) => channels.insert(index, ChannelState { channel, position: None, subscribers }),
        }
    }
    Ok(Json(ChannelList { channels, more }))
}

/// The options of a history request.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    since: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/channels/{channel}/history?since=&limit=`
pub(super) async fn history(
    State(instance): State<Arc<Instance>>,
    Asker { grant, .. }: Asker,
    channel: ChannelPath,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<HistoryFrame>, ApiError> {
    let channel = channel_of(channel)?;
    let Query(query) = query.map_err(|rejection| Problem::new(Code::BadRequest, rejection.body_text()))?;
    if !grant.may_read_history(&channel) {
        let message = format!("the credential does not allow to read the history of {channel}");
        return Err(Problem::new(Code::ChannelNotAllowed, message).into());
    }
    let since = query.since.as_deref().map(str::parse::<Position>).transpose();
    let since = since.map_err(|e| Problem::new(Code::BadRequest, format!("`since`: {e}")))?;
    let most = instance.websocket.load().page;
    let limit =
        PageLimit { publications: query.limit.unwrap_or(most.publications).min(most.publications), ..most };
    let page = instance.node.history(channel, since, limit).await?;
    Ok(Json(HistoryFrame {
        position: page.end(),
        more: page.more(),
        gap: page.gap,
        publications: page.publications,
    }))
}

/// The options of a question about presence.
#[derive(Debug, Deserialize)]
pub(super) struct PresenceQuery {
    limit: Option<usize>,
}

/// `GET /v1/channels/{channel}/presence?limit=`
pub(super) async fn presence(
    State(instance): State<Arc<Instance>>,
    Asker { grant, .. }: Asker,
    channel: ChannelPath,
    query: Result<Query<PresenceQuery>, QueryRejection>,
) -> Result<Json<PresenceMembers>, ApiError> {
    let channel = channel_of(channel)?;
    let Query(query) = query.map_err(|rejection| Problem::new(Code::BadRequest, rejection.body_text()))?;
    if !grant.may_see_presence(&channel) {
        let message = format!("the credential does not allow to see the presence of {channel}");
        return Err(Problem::new(Code::ChannelNotAllowed, message).into());
    }
    let most = instance.limits.load().presence_members_max;
    let members = instance.node.members(&channel, query.limit.unwrap_or(most).min(most)).await?;
    Ok(Json(members))
}
