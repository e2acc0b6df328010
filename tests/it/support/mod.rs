//! What all tests share: servers in this process, the real binary, and clients of every kind.

mod http;
mod process;
mod raw_websocket;
mod server;
mod sse;
mod token;
mod wait;
mod websocket;

pub use http::{Answer, Request, read_head};
pub use process::Process;
pub use raw_websocket::{RawFrame, RawWebSocket};
pub use server::TestServer;
pub use sse::{Event, EventStream};
pub use token::{API_KEY, SECRET, Token, auth_config};
pub use wait::{DEADLINE, eventually, within};
pub use websocket::{Closed, WebSocket};
