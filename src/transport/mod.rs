//! Transports: connections that stay open. One loop moves a session over any wire; WebSocket and SSE are two of them.

mod accept;
mod admission;
mod client_address;
mod connection;
mod contained;
mod endpoint;
mod http_socket;
mod inbound;
mod outbox;
mod performer;
mod pipe;
mod proxy_header;
mod request_body;
mod sse;
mod starting;
mod stream;
mod task;
mod websocket;
mod wire;

pub use accept::{accept, connection_descriptors_max};
pub use admission::{address_of, bearer};
pub use endpoint::websocket;
pub use starting::answer_while_starting;
pub use stream::{sse_get, sse_post};
