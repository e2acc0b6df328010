//! Tests against the whole of tidings.

mod model;
mod simulation;
mod tidy;
