//! The client's half of RFC 6455, written from the RFC and from nothing of the server: the opening request, frames out,
//! messages in. It knows no JSON and no sockets.

/// The nonce of RFC 6455, 1.3. A constant, so that the expected answer is one too: nothing here guards a secret.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer to [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The subprotocol asked for: JSON in text frames.
pub(crate) const SUBPROTOCOL: &str = "tidings.v1.json";

/// A message over this is refused: 16 times the server's own limit.
const MESSAGE_BYTES_MAX: usize = 16_000_000;

/// Header lines of the opening request.
pub(crate) fn upgrade_headers() -> String {
    format!(
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\
         sec-websocket-protocol: {SUBPROTOCOL}\r\n"
    )
}

/// Bytes that no server may send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketError {
    #[error("reserved bits set in a frame's first byte {0:#04x}")]
    ReservedBits(u8),
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    #[error("masked frame from the server")]
    Masked,
    #[error("length {0} not in its shortest form")]
    LongLength(u64),
    #[error("message over {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("control frame fragmented or over 125 bytes")]
    BadControl,
    #[error("fragments out of order")]
    BadFragment,
}

/// The kinds of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Opcode, WebSocketError> {
        Ok(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(WebSocketError::UnknownOpcode(other)),
        })
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A whole masked frame, as clients must send it.
pub(crate) fn client_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = head(opcode, payload.len(), 0x80);
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A whole frame without a mask, as servers send it.
pub(crate) fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(opcode, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn head(opcode: Opcode, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut head = vec![0x80 | opcode as u8];
    match length {
        0..=125 => head.push(mask_bit | length as u8),
        126..=0xffff => {
            head.push(mask_bit | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// What a frame's first 2 to 10 bytes say.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    is_final: bool,
    opcode: Opcode,
    head_length: usize,
    payload_length: usize,
}

impl Header {
    /// `None` while the header is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Header>, WebSocketError> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(WebSocketError::ReservedBits(first));
        }
        if second & 0x80 != 0 {
            return Err(WebSocketError::Masked);
        }
        let (head_length, shortest) = match second {
            126 => (4, 126),
            127 => (10, 0x1_0000),
            _ => (2, 0),
        };
        if bytes.len() < head_length {
            return Ok(None);
        }
        let length = match head_length {
            2 => u64::from(second),
            _ => bytes[2..head_length].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if length < shortest {
            return Err(WebSocketError::LongLength(length));
        }
        if length > MESSAGE_BYTES_MAX as u64 {
            return Err(WebSocketError::TooLarge);
        }
        let (is_final, opcode) = (first & 0x80 != 0, Opcode::from_bits(first & 0x0f)?);
        if opcode.is_control() && (!is_final || length > 125) {
            return Err(WebSocketError::BadControl);
        }
        Ok(Some(Header { is_final, opcode, head_length, payload_length: length as usize }))
    }
}

/// What arrives: whole messages and control frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// Code and reason; 1005 stands for "none given".
    Close(u16, &'a [u8]),
}

/// Turns a server's bytes, split anywhere, into messages. Holds only what is incomplete: nothing, mostly.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    fragments: Option<(Opcode, Vec<u8>)>,
}

impl Decoder {
    /// Passes every message that `bytes` complete to `on_message`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut on_message: impl FnMut(Message<'_>),
    ) -> Result<(), WebSocketError> {
        if self.pending.is_empty() {
            let used = self.decode(bytes, &mut on_message)?;
            self.pending.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let used = self.decode(&pending, &mut on_message)?;
        // A frame's buffer is given back whole: 5,000 clients should not each keep their largest message.
        self.pending = pending[used..].to_vec();
        Ok(())
    }

    /// Decodes whole frames and returns how many bytes they took.
    fn decode(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<usize, WebSocketError> {
        let mut used = 0;
        while let Some(header) = Header::parse(&bytes[used..])? {
            let start = used + header.head_length;
            let Some(payload) = bytes.get(start..start + header.payload_length) else { break };
            self.take_frame(&header, payload, on_message)?;
            used = start + header.payload_length;
        }
        Ok(used)
    }

    fn take_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<(), WebSocketError> {
        match (header.opcode, &mut self.fragments) {
            (Opcode::Ping, _) => on_message(Message::Ping(payload)),
            (Opcode::Pong, _) => on_message(Message::Pong),
            (Opcode::Close, _) => on_message(close(payload)?),
            (Opcode::Continuation, Some((_, message))) => {
                if message.len() + payload.len() > MESSAGE_BYTES_MAX {
                    return Err(WebSocketError::TooLarge);
                }
                message.extend_from_slice(payload);
                if header.is_final {
                    let (opcode, message) = self.fragments.take().expect("matched as present");
                    on_message(data(opcode, &message));
                }
            }
            (Opcode::Text | Opcode::Binary, None) if header.is_final => {
                on_message(data(header.opcode, payload))
            }
            (Opcode::Text | Opcode::Binary, None) => self.fragments = Some((header.opcode, payload.to_vec())),
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(WebSocketError::BadFragment);
            }
        }
        Ok(())
    }
}

fn data(opcode: Opcode, payload: &[u8]) -> Message<'_> {
    if opcode == Opcode::Text { Message::Text(payload) } else { Message::Binary(payload) }
}

fn close(payload: &[u8]) -> Result<Message<'_>, WebSocketError> {
    match payload {
        [] => Ok(Message::Close(1005, &[])),
        [high, low, reason @ ..] => Ok(Message::Close(u16::from_be_bytes([*high, *low]), reason)),
        [_] => Err(WebSocketError::BadControl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decoder makes of `bytes` cut in two at `split`, told as text.
    fn decode(bytes: &[u8], split: usize) -> Result<Vec<String>, WebSocketError> {
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        for part in [&bytes[..split], &bytes[split..]] {
            decoder.feed(part, |message| seen.push(tell(&message)))?;
        }
        assert!(decoder.pending.is_empty(), "everything was whole");
        Ok(seen)
    }

    fn tell(message: &Message<'_>) -> String {
        match message {
            Message::Text(text) | Message::Binary(text) if text.len() > 20 => format!("{} bytes", text.len()),
            Message::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
            Message::Binary(bytes) => format!("binary {bytes:?}"),
            Message::Ping(bytes) => format!("ping {}", String::from_utf8_lossy(bytes)),
            Message::Pong => "pong".to_owned(),
            Message::Close(code, reason) => format!("close {code} {}", String::from_utf8_lossy(reason)),
        }
    }

    #[test]
    fn frames_split_at_any_byte_are_the_same_messages() {
        let mut bytes = server_frame(Opcode::Text, b"one");
        bytes.extend(server_frame(Opcode::Ping, b"p"));
        bytes.extend(server_frame(Opcode::Text, &[b'x'; 300]));
        bytes.extend([0x01, 2, b'a', b'b', 0x89, 1, b'q', 0x80, 1, b'c']);
        bytes.extend(server_frame(Opcode::Close, b"\x03\xf4bye"));
        for split in 0..=bytes.len() {
            let expected = ["text one", "ping p", "300 bytes", "ping q", "text abc", "close 1012 bye"];
            assert_eq!(decode(&bytes, split).unwrap(), expected, "split at {split}");
        }
    }

    #[test]
    fn lengths_of_7_16_and_64_bits_are_read() {
        for length in [0, 125, 126, 0xffff, 0x1_0000, 200_000] {
            let frame = server_frame(Opcode::Binary, &vec![0; length]);
            let mut seen = None;
            let count = |message: Message<'_>| {
                let Message::Binary(bytes) = message else { panic!("binary was sent") };
                seen = Some(bytes.len());
            };
            Decoder::default().feed(&frame, count).unwrap();
            assert_eq!(seen, Some(length));
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let masked = client_frame(Opcode::Text, b"hi", [1, 2, 3, 4]);
        let rows: [(&[u8], WebSocketError); 9] = [
            (&masked, WebSocketError::Masked),
            (&[0xc1, 0], WebSocketError::ReservedBits(0xc1)),
            (&[0x83, 0], WebSocketError::UnknownOpcode(3)),
            (&[0x81, 126, 0, 5], WebSocketError::LongLength(5)),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 1, 0], WebSocketError::LongLength(256)),
            (&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0], WebSocketError::TooLarge),
            (&[0x09, 0], WebSocketError::BadControl),
            (&[0x80, 0], WebSocketError::BadFragment),
            (&[0x01, 0, 0x81, 0], WebSocketError::BadFragment),
        ];
        for (bytes, expected) in rows {
            assert_eq!(decode(bytes, 0), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_client_frame_unmasks_to_its_payload() {
        let frame = client_frame(Opcode::Text, b"hello", [9, 8, 7, 6]);
        assert_eq!(frame[..2], [0x81, 0x85]);
        let unmasked: Vec<u8> =
            frame[6..].iter().zip([9, 8, 7, 6, 9]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, b"hello");
    }
}
