//! Tests against the whole of tidings: real servers, real sockets.

mod support;

mod publish;
mod resume;
mod subscribe;
