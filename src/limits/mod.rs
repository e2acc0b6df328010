//! How much anybody may ask of this instance: rates by level, connections at once, and what memory there is.
//!
//! ```text
//!   Caller ──names──▶ Rates (governor, a meter for each level and count) ──▶ Standing of each, or Limited
//!   Caller ──names──▶ Seats (connections at once) ──▶ Seat, given back when it is dropped
//!   Caller ──levels─▶ Pot (a resource of the instance) ──▶ Taken, given back when it is dropped, or Refused
//! ```
//!
//! Which buckets an event touches is decided by [`Caller::name`] alone. Nothing here is asked for a delivery: what costs a
//! client nothing to cause is metered, what it is sent is bounded by its mailbox.

mod arrivals;
mod attempts;
mod caller;
mod flood;
mod meter;
mod pressure;
mod rates;
mod seats;
mod share;
mod sockets;
mod standing;

pub use arrivals::Arrivals;
pub use attempts::{AttemptLimits, Attempts};
pub use caller::{Caller, Count, Name, Scope};
pub use flood::Flood;
pub use pressure::{Memory, Pressure, Relief, most};
pub use rates::{ConnectionRates, Rates, Standings};
pub use seats::{Seat, SeatLimits, Seats};
pub use share::{Account, Excess, Pot, Refused, Shares, Taken};
pub use sockets::{Place, Sockets};
pub use standing::{Limited, Standing, policy_header, standing_header};
