//! Tests against the whole of tidings.

#[cfg(feature = "ablation")]
mod ablation;
mod model;
mod simulation;
mod tidy;
