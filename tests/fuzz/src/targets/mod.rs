//! A file each.

mod bodies;
mod command;
mod cursor;
mod events;
mod frame;
mod ledger;
mod names;
mod redis;
mod requests;
mod rules;
mod session;
mod token;

pub(crate) use bodies::bodies;
pub(crate) use command::command;
pub(crate) use cursor::cursor;
pub(crate) use events::events;
pub(crate) use frame::frame;
pub(crate) use ledger::ledger;
pub(crate) use names::names;
pub(crate) use redis::redis;
pub(crate) use requests::requests;
pub(crate) use rules::rules;
pub(crate) use session::session;
pub(crate) use token::token;
