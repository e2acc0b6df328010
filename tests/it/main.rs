//! Tests against the whole of tidings.

mod model;
mod tidy;
