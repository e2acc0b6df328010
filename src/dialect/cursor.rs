//! The cursor of an SSE stream: where it stands in each of its channels, as one opaque word for the browser to bring back.
//!
//! ```text
//! version (1 byte) · each channel: hash (6 bytes), then one of
//!     0                               the position had no room: a gap for this channel
//!     1 · suffix · offset             the epoch is the suffix
//!     2 + n · suffix · offset         the epoch is `n-suffix`
//! suffix: 0 · 6 bytes                 a new one of the table: eight digits and small letters, packed
//!         1 · length · bytes          a new one of any other kind
//!         2 · 10 bytes                20 hexadecimal digits, of no table
//!         3 · 9 bytes                 13 characters of 5 bits each, of no table
//!         4 + n                       number n of the table
//! ```
//! Numbers are LEB128; the whole is base64url. A channel is known by the first 6 bytes of its name's SHA-256. Epochs of this
//! server are a number and a suffix of one process, which is written once for all channels that share it, or a hash of the
//! channel's own: 20 hexadecimal digits in Redis, 13 characters in memory.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tidings_protocol::{Channel, Epoch, INTEGER_MAX, Offset, Position};

const VERSION: u8 = 2;

/// The longest cursor, in bytes of base64: what `Last-Event-ID` may take of a header block.
pub const BYTES_MAX: usize = 4_096;

/// The same before base64: four characters hold three bytes.
const RAW_BYTES_MAX: usize = BYTES_MAX / 4 * 3;

/// The most channels of one stream. 128 channels take 6 + 2 + 10 + 5 = 23 bytes each, 2.9 of the 3 KiB, where every epoch is a
/// hash of its own and offsets are below 2^35; 6 + 5 + 7 + 5 where every epoch is a number below 2^35 and another suffix.
pub const CHANNELS_MAX: usize = 128;

/// What a channel takes whose position has no room.
const MARKER_BYTES: usize = HASH_BYTES + 1;

const HASH_BYTES: usize = 6;

type Hash = [u8; HASH_BYTES];

/// Where a stream stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<(Hash, Place)>);

/// What a cursor says of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The stream stood here.
    At(Position),
    /// The stream had the channel, but its position had no room in the cursor.
    Unknown,
}

/// The cursor cannot be read: another version, a forged or a truncated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorInvalid;

impl Cursor {
    /// The place in one channel; `None` if the stream did not have the channel.
    pub fn place(&self, channel: &Channel) -> Option<&Place> {
        let hash = hash(channel);
        let mut places = self.0.iter().filter(|(known, _)| *known == hash).map(|(_, place)| place);
        let first = places.next()?;
        // Two channels of one hash: nobody knows whose place is whose.
        Some(if places.next().is_some() { &Place::Unknown } else { first })
    }

    /// Reads what [`CursorWriter`] wrote.
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
    let (mut places, mut suffixes) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let hash = input.split_off(..HASH_BYTES)?.try_into().ok()?;
        let form = read_number(input)?;
        if form == 0 {
            places.push((hash, Place::Unknown));
            continue;
        }
        let suffix = read_suffix(input, &mut suffixes)?;
        let suffix = &*suffix;
        let epoch = match form.checked_sub(2) {
            None => Epoch::parse(suffix).ok()?,
            Some(number) => Epoch::parse(&format!("{number}-{suffix}")).ok()?,
        };
        let offset = read_number(input).filter(|offset| *offset <= INTEGER_MAX)?;
        places.push((hash, Place::At(epoch.at(Offset(offset)))));
    }
    Some(Cursor(places))
}

fn read_suffix<'a>(input: &mut &[u8], known: &'a mut Vec<String>) -> Option<Cow<'a, str>> {
    let index = match read_number(input)? {
        HEXADECIMAL => {
            let bytes = input.split_off(..HEXADECIMAL_BYTES)?;
            return Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        FIVE_BITS => return unpack_five_bits(input.split_off(..FIVE_BITS_BYTES)?).map(Cow::Owned),
        PACKED => {
            known.push(unpack(input.split_off(..PACKED_BYTES)?.try_into().ok()?)?);
            known.len() - 1
        }
        PLAIN => {
            let length = usize::try_from(read_number(input)?).ok()?;
            known.push(std::str::from_utf8(input.split_off(..length)?).ok()?.to_owned());
            known.len() - 1
        }
        number => usize::try_from(number - KNOWN).ok()?,
    };
    known.get(index).map(|suffix| Cow::Borrowed(suffix.as_str()))
}

/// Writes cursors of one stream, and remembers what is the same in all of them.
#[derive(Debug, Default)]
pub struct CursorWriter {
    /// The hashes of the channels, in the order of the last cursor.
    hashes: Vec<(Channel, Hash)>,
}

impl CursorWriter {
    /// Appends the cursor of a stream that stands at these positions to `line`.
    pub fn write<'a>(
        &mut self,
        positions: impl Iterator<Item = (&'a Channel, &'a Position)>,
        line: &mut String,
    ) {
        let mut out = Vec::with_capacity(32);
        out.push(VERSION);
        let mut suffixes: Vec<&str> = Vec::new();
        let positions = positions.enumerate();
        let mut left = positions.size_hint().1.unwrap_or(CHANNELS_MAX).min(CHANNELS_MAX);
        for (index, (channel, position)) in positions {
            left = left.saturating_sub(1);
            let (begin, known) = (out.len(), suffixes.len());
            out.extend_from_slice(&self.hash(index, channel));
            write_place(&mut out, position, &mut suffixes);
            if out.len() + left * MARKER_BYTES > RAW_BYTES_MAX {
                out.truncate(begin + HASH_BYTES);
                out.push(0);
                suffixes.truncate(known);
            }
        }
        URL_SAFE_NO_PAD.encode_string(out, line);
    }

    /// The hash of the channel at `index`. A SHA-256 for each channel in each write would cost more than the rest of it.
    fn hash(&mut self, index: usize, channel: &Channel) -> Hash {
        match self.hashes.get_mut(index) {
            Some((known, hash)) if known.is_copy_of(channel) => *hash,
            Some(known) => {
                if known.0 != *channel {
                    known.1 = hash(channel);
                }
                known.0.clone_from(channel);
                known.1
            }
            None => {
                self.hashes.push((channel.clone(), hash(channel)));
                self.hashes[index].1
            }
        }
    }
}

/// The cursor of a stream that stands at these positions.
pub fn encode<'a>(positions: impl Iterator<Item = (&'a Channel, &'a Position)>) -> String {
    let mut text = String::new();
    CursorWriter::default().write(positions, &mut text);
    text
}

fn write_place<'a>(out: &mut Vec<u8>, position: &'a Position, suffixes: &mut Vec<&'a str>) {
    let epoch = position.epoch.as_str();
    let (form, suffix) =
        match epoch.split_once('-').and_then(|(digits, suffix)| Some((number(digits)?, suffix))) {
            Some((number, suffix)) => (number + 2, suffix),
            None => (1, epoch),
        };
    write_number(out, form);
    if let Some((kind, packed)) = pack_hash(suffix) {
        write_number(out, kind);
        out.extend_from_slice(&packed);
        return write_number(out, position.offset.0);
    }
    match suffixes.iter().position(|known| *known == suffix) {
        Some(index) => write_number(out, index as u64 + KNOWN),
        None => {
            suffixes.push(suffix);
            match pack(suffix) {
                Some(packed) => {
                    write_number(out, PACKED);
                    out.extend_from_slice(&packed);
                }
                None => {
                    write_number(out, PLAIN);
                    write_number(out, suffix.len() as u64);
                    out.extend_from_slice(suffix.as_bytes());
                }
            }
        }
    }
    write_number(out, position.offset.0);
}

/// The number that these digits write; `None` where it would be written in another way.
fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|number| is_plain && *number <= INTEGER_MAX)
}

/// How a suffix is written: packed, as it is, or, from here on, as its number in the table.
const PACKED: u64 = 0;
const PLAIN: u64 = 1;
const HEXADECIMAL: u64 = 2;
const FIVE_BITS: u64 = 3;
const KNOWN: u64 = 4;

/// 20 hexadecimal digits.
const HEXADECIMAL_BYTES: usize = 10;

/// 13 characters of 5 bits are 65 bits.
const FIVE_BITS_BYTES: usize = 9;
const FIVE_BITS_CHARACTERS: usize = 13;
const FIVE_BITS_ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";

/// 36^8 is below 2^42.
const PACKED_BYTES: usize = 6;

const SUFFIX_CHARACTERS: u32 = 8;

/// An epoch that is a hash, as bytes, and of which kind.
fn pack_hash(epoch: &str) -> Option<(u64, SmallVec<[u8; HEXADECIMAL_BYTES]>)> {
    match epoch.len() {
        length if length == 2 * HEXADECIMAL_BYTES => {
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
            Some((HEXADECIMAL, epoch.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?))
        }
        FIVE_BITS_CHARACTERS => {
            let value = |byte: u8| FIVE_BITS_ALPHABET.iter().position(|known| *known == byte);
            let number =
                epoch.bytes().try_fold(0_u128, |number, byte| Some(number << 5 | value(byte)? as u128))?;
            Some((FIVE_BITS, number.to_be_bytes()[16 - FIVE_BITS_BYTES..].into()))
        }
        _ => None,
    }
}

fn unpack_five_bits(packed: &[u8]) -> Option<String> {
    let number = packed.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let character = |index: usize| {
        let value = number >> (5 * (FIVE_BITS_CHARACTERS - 1 - index)) & 31;
        char::from(FIVE_BITS_ALPHABET[value as usize])
    };
    (number >> (5 * FIVE_BITS_CHARACTERS) == 0).then(|| (0..FIVE_BITS_CHARACTERS).map(character).collect())
}

/// Eight digits and small letters as a number of base 36.
fn pack(suffix: &str) -> Option<[u8; PACKED_BYTES]> {
    let is_packable = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    if suffix.len() != SUFFIX_CHARACTERS as usize || !suffix.bytes().all(is_packable) {
        return None;
    }
    let number = u64::from_str_radix(suffix, 36).ok()?;
    number.to_be_bytes()[8 - PACKED_BYTES..].try_into().ok()
}

fn unpack(packed: [u8; PACKED_BYTES]) -> Option<String> {
    let mut number = packed.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut suffix = [0; SUFFIX_CHARACTERS as usize];
    for character in suffix.iter_mut().rev() {
        *character = char::from_digit((number % 36) as u32, 36)? as u8;
        number /= 36;
    }
    (number == 0).then(|| suffix.iter().map(|b| char::from(*b)).collect())
}

fn hash(channel: &Channel) -> Hash {
    let digest: [u8; 32] = Sha256::digest(channel.as_str().as_bytes()).into();
    digest[..HASH_BYTES].try_into().expect("6 of 32 bytes are 6 bytes")
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

    fn positions(texts: &[&str]) -> Vec<Position> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// So many channels with the longest names, and a position for each.
    fn many(position: impl Fn(usize) -> String) -> (Vec<Channel>, Vec<Position>) {
        let channels = (0..CHANNELS_MAX).map(|n| channel(&format!("{n:0>255}")));
        (channels.collect(), (0..CHANNELS_MAX).map(|n| position(n).parse().unwrap()).collect())
    }

    fn round(channels: &[Channel], positions: &[Position]) -> Vec<Place> {
        let text = encode(channels.iter().zip(positions));
        assert!(text.len() <= BYTES_MAX, "{}", text.len());
        let cursor = Cursor::decode(&text).unwrap();
        channels.iter().map(|channel| cursor.place(channel).unwrap().clone()).collect()
    }

    #[test]
    fn a_cursor_brings_every_position_back() {
        let texts = [
            "1-k3v9qqqq.0",
            "1-k3v9q.300",
            "2-k3v9qqqq.9007199254740991",
            "01-k3v9qqqq.4",
            "9007199254740991-00000000.5",
            "9007199254740992-zzzzzzzz.6",
            "18446744073709551616-a.7",
            "-.8",
            "7-.9",
            "-k3v9qqqq.10",
            "k3v9qqqq.11",
            "A-Zzzzzzzz.12",
            "3-zzzzzzzz.13",
            "0-0-zzzzzzzz.14",
            "0123456789abcdef0123.15",
            "ffffffffffffffffffff.9007199254740991",
            "0123456789ABCDEF0123.16",
            "7-0123456789abcdef0123.17",
            "aaaaaaaaaaaaa.18",
            "8888888888888.19",
            "mor7mg8je7axy.20",
            "mor7mg8je7axl.21",
        ];
        let channels: Vec<Channel> = (0..texts.len()).map(|n| channel(&n.to_string())).collect();
        let positions = positions(&texts);
        let places: Vec<Place> = positions.iter().cloned().map(Place::At).collect();
        assert_eq!(round(&channels, &positions), places);
        let cursor = Cursor::decode(&encode(channels.iter().zip(&positions))).unwrap();
        assert_eq!(cursor.place(&channel("other")), None);
    }

    #[test]
    fn a_full_stream_of_epochs_that_are_hashes_fits() {
        for epoch in [
            |n: usize| format!("{:020x}", n as u128 * 7_919_000_000_000_000_033),
            |n: usize| {
                format!(
                    "mor7mg8je7{}a{}",
                    char::from(b'a' + (n % 8) as u8),
                    char::from(b'a' + (n / 16) as u8)
                )
            },
        ] {
            let (channels, positions) = many(|n| format!("{}.{}", epoch(n), (1_u64 << 35) - 1));
            let places: Vec<Place> = positions.iter().cloned().map(Place::At).collect();
            assert_eq!(round(&channels, &positions), places);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let good = encode([(&channel("a"), &"1-a.5".parse().unwrap())].into_iter());
        assert!(Cursor::decode(&good).is_ok());
        let version_1 = "AQEDYS1hAAAAAAAAAAAB";
        for bad in
            ["", "A", "42", "AwA", version_1, "!!", &good[..good.len() - 2], &"A".repeat(BYTES_MAX + 1)]
        {
            assert_eq!(Cursor::decode(bad), Err(CursorInvalid), "{bad}");
        }
        // A suffix that is not in the table, and a packed one that no suffix gives.
        for tail in [
            &[2, 4, 5][..],
            &[2, 0, 255, 255, 255, 255, 255, 255, 5],
            &[1, 2, 1, 2, 3],
            &[1, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 5],
        ] {
            let raw = [&[VERSION][..], &[0; HASH_BYTES], tail].concat();
            assert_eq!(Cursor::decode(&URL_SAFE_NO_PAD.encode(raw)), Err(CursorInvalid), "{tail:?}");
        }
    }

    #[test]
    fn a_full_stream_fits_with_the_longest_epochs_of_a_broker() {
        for position in [
            // Each channel was begun by another process.
            (|n| format!("{}-{n:z>8}.{}", (1_u64 << 35) - 3 - n as u64, (1_u64 << 35) - 1))
                as fn(usize) -> String,
            // All by one, which has written for ever.
            |n| format!("{}-k3v9q7ab.{INTEGER_MAX}", INTEGER_MAX - 2 - n as u64),
        ] {
            let (channels, positions) = many(position);
            let places: Vec<Place> = positions.iter().cloned().map(Place::At).collect();
            assert!(round(&channels, &positions) == places, "all of {CHANNELS_MAX} have room");
        }
    }

    #[test]
    fn a_position_without_room_is_said_to_be_unknown() {
        let (channels, positions) = many(|n| format!("{n:a>64}.{INTEGER_MAX}"));
        let places = round(&channels, &positions);
        let known = places.iter().zip(&positions).filter(|(place, at)| **place == Place::At((*at).clone()));
        assert_eq!((known.count(), places[CHANNELS_MAX - 1].clone()), (29, Place::Unknown));
        assert!(places[29..].iter().all(|place| *place == Place::Unknown));
    }

    #[test]
    fn two_channels_of_one_hash_have_no_known_place() {
        let place = |offset| ([7; HASH_BYTES], Place::At(format!("1-a.{offset}").parse().unwrap()));
        let name = channel("a");
        let cursor = Cursor([place(1), place(2)].map(|(_, place)| (hash(&name), place)).into());
        assert_eq!(cursor.place(&name), Some(&Place::Unknown));
    }

    #[test]
    fn a_writer_knows_its_channels_in_whatever_order_they_come() {
        let channels = [channel("a"), channel("b"), channel("c")];
        let copies = ["a", "b", "c"].map(channel);
        let positions = positions(&["1-a.1", "1-b.2", "1-c.3"]);
        let mut writer = CursorWriter::default();
        let mut write = |indices: &[usize], channels: &[Channel]| {
            let (mut text, mut fresh) = (String::new(), CursorWriter::default());
            let stands = || indices.iter().map(|index| (&channels[*index], &positions[*index]));
            writer.write(stands(), &mut text);
            let mut expected = String::new();
            fresh.write(stands(), &mut expected);
            assert_eq!(text, expected, "{indices:?}");
        };
        for indices in [&[0, 1, 2][..], &[0, 1, 2], &[1, 2], &[0, 2], &[2, 1, 0], &[]] {
            write(indices, &channels);
            write(indices, &copies);
        }
    }
}
