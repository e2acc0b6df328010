//! Peers that mean harm, on bare sockets against the real binary, with honest clients beside them.
//!
//! After each attack the server still answers, met no defect, holds no connection of the attackers, and has its memory back. Cases
//! that one message settles are in `framing.rs`, `http.rs`, `limits.rs` and `errors.rs`.

mod bodies;
#[cfg(feature = "ablation")]
mod defect;
mod events;
mod floods;
mod handshakes;
mod headers;
mod readers;
mod siege;
mod smuggling;
mod strangers;
mod vectors;
