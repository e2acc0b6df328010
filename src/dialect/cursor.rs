//! The cursor of an SSE stream: where it stands in each of its channels, as one opaque word for the browser to bring back.
//!
//! ```text
//! version (1 byte) · number of epochs · each: length, bytes · each channel: hash (8 bytes), epoch's index, offset
//! ```
//! Numbers are LEB128; the whole is base64url. A channel is known by the first 8 bytes of its name's SHA-256, so that 128
//! channels with names of 255 bytes still fit the 4 KiB that a header may take.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tidings_protocol::{Channel, Epoch, Offset, Position};

const VERSION: u8 = 1;

/// The longest cursor that is read, in bytes of base64: what Last-Event-ID may take of a header block.
pub const BYTES_MAX: usize = 4_096;

/// The most channels of one stream. With offsets below 2^35 and even an epoch of 8 bytes for each channel they fit the
/// cursor: 128 * (8 + 1 + 5 + 9) bytes are 2.9 KiB, in base64 3.9 KiB. A cursor that grew longer would come back as
/// unreadable, which is a gap and no silence.
pub const CHANNELS_MAX: usize = 128;

/// Where a stream stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<([u8; 8], Position)>);

/// The cursor cannot be read: another version, a forged or a truncated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorInvalid;

impl Cursor {
    /// The position in one channel; `None` if the stream did not have it.
    pub fn position(&self, channel: &Channel) -> Option<&Position> {
        let hash = hash(channel);
        self.0.iter().find(|(known, _)| *known == hash).map(|(_, position)| position)
    }

    /// Reads what [`encode`] wrote.
    pub fn decode(text: &str) -> Result<Cursor, CursorInvalid> {
        if text.len() > BYTES_MAX {
            return Err(CursorInvalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorInvalid)?;
        read(&mut &bytes[..]).ok_or(CursorInvalid)
    }
}

fn read(input: &mut &[u8]) -> Option<Cursor> {
    if *input.split_off_first()? != VERSION {
        return None;
    }
    let mut epochs = Vec::new();
    for _ in 0..read_number(input)?.min(BYTES_MAX as u64) {
        let length = usize::try_from(read_number(input)?).ok()?;
        let text = std::str::from_utf8(input.split_off(..length)?).ok()?;
        epochs.push(Epoch::parse(text).ok()?);
    }
    let mut positions = Vec::new();
    while !input.is_empty() {
        let hash = input.split_off(..8)?.try_into().ok()?;
        let epoch = epochs.get(usize::try_from(read_number(input)?).ok()?)?;
        let offset = read_number(input).filter(|offset| *offset <= tidings_protocol::INTEGER_MAX)?;
        positions.push((hash, epoch.at(Offset(offset))));
    }
    Some(Cursor(positions))
}

/// Writes the cursor of a stream that stands at these positions.
pub fn encode<'a>(positions: impl Iterator<Item = (&'a Channel, &'a Position)>) -> String {
    let mut epochs: Vec<&Epoch> = Vec::new();
    let mut places = Vec::new();
    for (channel, position) in positions {
        let known = epochs.iter().position(|epoch| **epoch == position.epoch);
        let index = known.unwrap_or_else(|| {
            epochs.push(&position.epoch);
            epochs.len() - 1
        });
        places.extend_from_slice(&hash(channel));
        write_number(&mut places, index as u64);
        write_number(&mut places, position.offset.0);
    }
    let mut out = vec![VERSION];
    write_number(&mut out, epochs.len() as u64);
    for epoch in epochs {
        write_number(&mut out, epoch.as_str().len() as u64);
        out.extend_from_slice(epoch.as_str().as_bytes());
    }
    out.append(&mut places);
    URL_SAFE_NO_PAD.encode(out)
}

fn hash(channel: &Channel) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(channel.as_str().as_bytes()).into();
    digest[..8].try_into().expect("8 of 32 bytes are 8 bytes")
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = *input.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn a_cursor_brings_every_position_back() {
        let channels = [channel("tickets"), channel("room:7"), channel("x")];
        let positions: Vec<Position> =
            ["1-k3v9q.0", "1-k3v9q.300", "2-k3v9q.9007199254740991"].map(|p| p.parse().unwrap()).into();
        let cursor = Cursor::decode(&encode(channels.iter().zip(&positions))).unwrap();
        for (channel, position) in channels.iter().zip(&positions) {
            assert_eq!(cursor.position(channel), Some(position));
        }
        assert_eq!(cursor.position(&channel("other")), None);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let good = encode([(&channel("a"), &"1-a.5".parse().unwrap())].into_iter());
        assert!(Cursor::decode(&good).is_ok());
        for bad in ["", "A", "42", "AgA", "!!", &good[..good.len() - 2], &"A".repeat(BYTES_MAX + 1)] {
            assert_eq!(Cursor::decode(bad), Err(CursorInvalid), "{bad}");
        }
    }

    #[test]
    fn the_cursor_of_a_full_stream_fits_a_header() {
        let channels: Vec<Channel> = (0..CHANNELS_MAX).map(|n| channel(&format!("{n:0>255}"))).collect();
        let position = |n| format!("{}-k3v9.{}", 100 + n, (1_u64 << 35) - 1).parse().unwrap();
        let positions: Vec<Position> = (0..CHANNELS_MAX).map(position).collect();
        let text = encode(channels.iter().zip(&positions));
        assert!(text.len() <= BYTES_MAX, "{}", text.len());
    }
}
