//! How things are said to a client: batches and frames as bytes. Pure functions; the transports move what they return.

pub mod cloud_event;
pub mod cursor;
pub mod native;
pub mod presence;
pub mod sse;
