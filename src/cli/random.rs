//! Randomness of the operating system.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes that nobody can guess.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("every supported system has randomness once it has booted");
    bytes
}

/// A name that nobody else has: 128 random bits in base64url.
pub(super) fn name() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// A number from 0 to below 1.
pub(super) fn unit() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
