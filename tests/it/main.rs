//! Tests against the whole of tidings.

mod simulation;
