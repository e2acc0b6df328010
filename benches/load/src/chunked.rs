//! The chunked transfer encoding (RFC 9112, 7.1), taken off a body whose bytes may be split anywhere.

/// A byte of the framing that is neither a size, nor its end, nor the end of a chunk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a chunk: byte {0:#04x} where its size or its end should be")]
pub(crate) struct BadChunk(u8);

/// Takes the chunked transfer encoding off a body (RFC 9112, 7.1), however its bytes are split.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: ChunkState,
}

/// Size → Data → DataEnd → Size … → Trailer → Done
#[derive(Debug)]
enum ChunkState {
    Size { size: u64 },
    Extension { size: u64 },
    Data { left: u64 },
    DataEnd,
    Trailer { line_is_empty: bool },
    Done,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Chunked { state: ChunkState::Size { size: 0 } }
    }

    /// Whether the last chunk and its trailer were seen: the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Passes the body's bytes among `bytes` to `data`, in as few slices as they lie in.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<(), BadChunk> {
        while let Some(&byte) = bytes.first() {
            if let ChunkState::Data { left } = &mut self.state {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                data(&bytes[..taken]);
                bytes = &bytes[taken..];
                *left -= taken as u64;
                if *left == 0 {
                    self.state = ChunkState::DataEnd;
                }
                continue;
            }
            self.state = self.state.after(byte)?;
            bytes = &bytes[1..];
        }
        Ok(())
    }
}

impl ChunkState {
    /// The state after a byte that belongs to the framing.
    fn after(&self, byte: u8) -> Result<ChunkState, BadChunk> {
        let next = match (self, byte) {
            (ChunkState::Size { size } | ChunkState::Extension { size }, b'\n') if *size == 0 => {
                ChunkState::Trailer { line_is_empty: true }
            }
            (ChunkState::Size { size } | ChunkState::Extension { size }, b'\n') => {
                ChunkState::Data { left: *size }
            }
            (ChunkState::Size { size }, b'\r') => ChunkState::Size { size: *size },
            (ChunkState::Size { size }, b';') => ChunkState::Extension { size: *size },
            (ChunkState::Size { size }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(BadChunk(byte))?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit.into()));
                ChunkState::Size { size: size.ok_or(BadChunk(byte))? }
            }
            (ChunkState::Extension { size }, _) => ChunkState::Extension { size: *size },
            (ChunkState::DataEnd, b'\r') => ChunkState::DataEnd,
            (ChunkState::DataEnd, b'\n') => ChunkState::Size { size: 0 },
            (ChunkState::Trailer { line_is_empty: true }, b'\n') => ChunkState::Done,
            (ChunkState::Trailer { line_is_empty }, b'\r') => {
                ChunkState::Trailer { line_is_empty: *line_is_empty }
            }
            (ChunkState::Trailer { .. }, other) => ChunkState::Trailer { line_is_empty: other == b'\n' },
            (ChunkState::DataEnd | ChunkState::Data { .. } | ChunkState::Done, _) => {
                return Err(BadChunk(byte));
            }
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchunked(encoded: &[u8], split: usize) -> Result<(Vec<u8>, bool), BadChunk> {
        let (mut chunked, mut body) = (Chunked::new(), Vec::new());
        for part in [&encoded[..split], &encoded[split..]] {
            chunked.feed(part, |data| body.extend_from_slice(data))?;
        }
        Ok((body, chunked.is_done()))
    }

    #[test]
    fn a_chunked_body_split_anywhere_is_the_same_body() {
        let encoded =
            b"5\r\nhello\r\n1a;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx-trailer: 1\r\n\r\n";
        for split in 0..=encoded.len() {
            let whole = (b"helloabcdefghijklmnopqrstuvwxyz".to_vec(), true);
            assert_eq!(unchunked(encoded, split), Ok(whole), "split at {split}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        assert_eq!(unchunked(b"g\r\n", 1), Err(BadChunk(b'g')));
        assert_eq!(unchunked(b"1\r\nab", 4), Err(BadChunk(b'b')), "longer than its size");
        assert_eq!(unchunked(b"0\r\n\r\nx", 3), Err(BadChunk(b'x')), "after the end");
        assert_eq!(unchunked(b"ffffffffffffffff0", 3), Err(BadChunk(b'0')), "over 64 bits");
    }
}
