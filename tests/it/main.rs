//! Tests against the whole of tidings: real servers, real sockets.

mod support;

mod access;
mod batching;
mod drain;
mod errors;
mod first_minute;
mod framing;
mod http;
mod leaks;
mod limits;
mod liveness;
mod origins;
mod publish;
mod resume;
mod slow_consumer;
mod sse;
mod subscribe;
