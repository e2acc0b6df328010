//! What operators see of a running server: numbers at `/metrics`, the state of its parts at `/health`.

mod health;
mod metrics;
mod process;

pub use health::{BrokerHealth, Health, HealthReport, IssuersHealth, Phase};
pub use metrics::{Metrics, TransportKind};
pub use process::{descriptors_max, descriptors_used, memory_budget, resident_bytes};
