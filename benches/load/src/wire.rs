//! The server's frames as they are written: the shapes that serde reads. What they mean is said in frame.rs.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One key names the frame; unknown keys are passed over.
#[derive(Deserialize)]
pub(crate) struct WireFrame<'a> {
    pub(crate) hello: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    pub(crate) batch: Option<WireBatch<'a>>,
    #[serde(borrow)]
    pub(crate) subscribed: Option<WireSubscribed<'a>>,
    #[serde(borrow)]
    pub(crate) history: Option<WireHistory<'a>>,
    #[serde(borrow)]
    pub(crate) gap: Option<WireGap<'a>>,
    #[serde(borrow)]
    pub(crate) continued: Option<WireContinued<'a>>,
    #[serde(borrow)]
    pub(crate) error: Option<WireError<'a>>,
    #[serde(borrow)]
    pub(crate) disconnect: Option<WireDisconnect<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct WirePosition<'a> {
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
}

#[derive(Deserialize)]
pub(crate) struct WirePublication<'a> {
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
    pub(crate) offset: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct WireBatch<'a> {
    pub(crate) channel: &'a str,
    pub(crate) epoch: Option<&'a str>,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    #[serde(borrow)]
    pub(crate) publications: Vec<WirePublication<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct WireSubscribed<'a> {
    pub(crate) channel: &'a str,
    #[serde(borrow)]
    pub(crate) position: Option<WirePosition<'a>>,
    pub(crate) recovered: Option<bool>,
    #[serde(default)]
    pub(crate) more: bool,
    #[serde(borrow, default)]
    pub(crate) publications: Vec<WirePublication<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct WireHistory<'a> {
    #[serde(borrow)]
    pub(crate) publications: Vec<WirePublication<'a>>,
    #[serde(borrow)]
    pub(crate) position: Option<WirePosition<'a>>,
    #[serde(default)]
    pub(crate) more: bool,
}

#[derive(Deserialize)]
pub(crate) struct WireGap<'a> {
    #[serde(borrow)]
    pub(crate) reason: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) position: Option<WirePosition<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct WireContinued<'a> {
    #[serde(borrow)]
    pub(crate) from: WirePosition<'a>,
    #[serde(borrow)]
    pub(crate) position: WirePosition<'a>,
}

#[derive(Deserialize)]
pub(crate) struct WireError<'a> {
    #[serde(borrow)]
    pub(crate) code: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) message: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(crate) struct WireDisconnect<'a> {
    pub(crate) code: u16,
    #[serde(borrow)]
    pub(crate) reason: Cow<'a, str>,
}

/// An SSE event's data.
#[derive(Deserialize)]
pub(crate) struct WireEvent<'a> {
    pub(crate) channel: &'a str,
    pub(crate) epoch: Option<&'a str>,
    pub(crate) offset: Option<u64>,
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
}
