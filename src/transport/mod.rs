//! Transports: connections that stay open. One loop moves a session over any wire; WebSocket and SSE are two of them.

mod accept;
mod admission;
mod connection;
mod contained;
mod endpoint;
mod inbound;
mod outbox;
mod performer;
mod pipe;
mod sse;
mod stream;
mod task;
mod websocket;
mod wire;

pub use accept::accept;
pub use admission::{address_of, bearer};
pub use endpoint::websocket;
pub use stream::{sse_get, sse_post};
