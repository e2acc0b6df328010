//! The generator against a server that misbehaves on purpose: what it does wrong must stand in the report, and nothing
//! else.

mod fanout;
mod support;
mod watch;
