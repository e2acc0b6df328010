//! The WebSocket wire: tungstenite reads, and complete frames made once for everybody are written to the bare socket.
//!
//! tungstenite would copy every message into a buffer of its own and keep that buffer as large as the largest burst. Here
//! it only decodes what comes; its own replies (pongs, close frames) take their place between two frames of the outbox.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tidings_protocol::{CloseCode, decode_command};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as TheirCloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::outbox::{Outbox, SLICES};
use super::wire::{Ready, Received, Wire};
use crate::config::Limits;
use crate::dialect::native;
use crate::hub::{Format, Session, Transmit};
use crate::observe::TransportKind;

/// What tungstenite reads at once and keeps per connection. Its default of 128 KiB is zeroed on every read.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What a stranger's `connect` may have around the token.
const FRAME_OVERHEAD_BYTES: usize = 4 * 1024;

/// Reads that one message may take before others get a turn. A message may have any number of fragments, empty ones too,
/// and tungstenite reads on for as long as there is something to read.
const READS_PER_TURN: usize = 4;

/// Messages after which others get a turn, though more are there: what asks for no answer, as a pong, is held back by nothing else.
const MESSAGES_PER_TURN: usize = 64;

/// How long the peer may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read and thrown away while waiting for that answer, at once and in all.
const LINGER_READ_BYTES: usize = 4 * 1024;
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A WebSocket after its handshake.
pub(super) struct WebSocketWire {
    stream: TcpStream,
    decoder: WebSocketContext,
    replies: Vec<u8>,
    read_bytes: usize,
    /// The last message took all the reads that it may, or was one of many: whoever else waits comes first.
    had_its_turn: bool,
    /// Messages since others had a turn.
    messages: usize,
    /// How large the messages of a peer may be once it has a credential; `None` when it has.
    trusts_with: Option<usize>,
}

impl WebSocketWire {
    /// Takes the socket over. `read` is what came after the handshake.
    pub(super) fn new(stream: TcpStream, read: &[u8], limits: &Limits) -> Self {
        let stranger_bytes_max = limits.token_bytes_max + FRAME_OVERHEAD_BYTES;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(stranger_bytes_max))
            .max_frame_size(Some(stranger_bytes_max));
        let decoder = WebSocketContext::from_partially_read(read.to_vec(), Role::Server, Some(config));
        WebSocketWire {
            stream,
            decoder,
            replies: Vec::new(),
            read_bytes: 0,
            had_its_turn: false,
            messages: 0,
            trusts_with: Some(limits.command_bytes_max()),
        }
    }
}

impl WebSocketWire {
    /// One system call. `send` and `sendmsg` go straight to the socket; `writev` would pass the layers of files first,
    /// at 8 % of the cost of a small write.
    fn send(&self, outbox: &Outbox) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = outbox.slices(&mut slices);
        if count == 1 {
            return self.stream.try_write(&slices[0]);
        }
        self.stream.try_io(Interest::WRITABLE, || {
            let none = &mut SendAncillaryBuffer::default();
            Ok(sendmsg(&self.stream, &slices[..count], none, SendFlags::NOSIGNAL)?)
        })
    }
}

impl Wire for WebSocketWire {
    const KIND: TransportKind = TransportKind::WebSocket;

    fn poll_ready(&mut self, context: &mut Context<'_>, read: bool, write: bool) -> Poll<io::Result<Ready>> {
        if std::mem::take(&mut self.had_its_turn) {
            self.messages = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if read && let Poll::Ready(ready) = self.stream.poll_read_ready(context) {
            return Poll::Ready(ready.map(|()| Ready::Read));
        }
        if write && let Poll::Ready(ready) = self.stream.poll_write_ready(context) {
            return Poll::Ready(ready.map(|()| Ready::Write));
        }
        Poll::Pending
    }

    fn receive(&mut self, outbox: &mut Outbox) -> io::Result<Option<Received>> {
        let mut io =
            Bare { stream: &self.stream, replies: &mut self.replies, bytes: 0, reads_left: READS_PER_TURN };
        let result = self.decoder.read(&mut io);
        self.messages += 1;
        self.read_bytes += io.bytes;
        self.had_its_turn |= io.reads_left == 0 || self.messages >= MESSAGES_PER_TURN;
        if !self.replies.is_empty() {
            outbox.push(Bytes::from(std::mem::take(&mut self.replies)));
        }
        received(result)
    }

    fn take_read_bytes(&mut self) -> usize {
        std::mem::take(&mut self.read_bytes)
    }

    fn encode(&mut self, transmit: Transmit, outbox: &mut Outbox) {
        let frame = match transmit {
            Transmit::Frame(envelope) => native::frame(&envelope),
            Transmit::Batch { batch, from: None } => {
                batch.encoded(Format::WebSocketJson, || native::batch(&batch)).clone()
            }
            Transmit::Batch { batch, from: Some(offset) } => native::batch(&batch.from_offset(offset)),
            Transmit::Ping => native::ping(),
            Transmit::Close(close) => {
                if let Some(disconnect) = native::disconnect(&close) {
                    outbox.push(disconnect);
                }
                native::close(close.code.number(), &close.reason())
            }
        };
        outbox.push(frame);
    }

    fn finish(&mut self, session: &Session, _: &mut Outbox) {
        if let Some(bytes_max) = self.trusts_with.take_if(|_| session.is_open()) {
            self.decoder.set_config(|config| {
                config.max_message_size = Some(bytes_max);
                config.max_frame_size = Some(bytes_max);
            });
        }
    }

    fn write(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        let mut total = 0;
        while !outbox.is_empty() {
            match self.send(outbox) {
                Ok(written) => {
                    outbox.advance(written);
                    total += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Waits a moment for the peer's close frame: a socket closed with unread bytes in it is reset, and a reset can
    /// overtake our last words.
    async fn end(&mut self) {
        let linger = async {
            let mut scratch = vec![0; LINGER_READ_BYTES];
            let mut total = 0;
            self.stream.shutdown().await.ok();
            while total < LINGER_BYTES_MAX && self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut scratch) {
                    Ok(0) => return,
                    Ok(read) => total += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        // Whoever does not answer in time is cut off: that is all there is left to do.
        tokio::time::timeout(CLOSE_TIMEOUT, linger).await.ok();
    }
}

fn received(result: Result<Message, Error>) -> io::Result<Option<Received>> {
    Ok(Some(match result {
        Ok(Message::Text(text)) => match decode_command(&text) {
            Ok((id, command)) => Received::Command(id, command),
            Err(refused) => Received::Refused(refused),
        },
        Ok(Message::Binary(_)) => {
            Received::violation(CloseCode::UnsupportedData, "this session speaks JSON in text frames")
        }
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Received::Heard,
        Ok(Message::Close(Some(close))) if close.code == TheirCloseCode::Protocol => {
            Received::violation(CloseCode::ProtocolError, "a close frame carries a code that may be sent")
        }
        // The peer said that it closes; tungstenite's answer is in the outbox, and a write is tried before the end.
        Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
            Received::violation(CloseCode::Normal, "")
        }
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(Error::Io(error)) => return Err(error),
        Err(Error::Utf8(_)) => Received::violation(CloseCode::InvalidUtf8, "text frames carry UTF-8"),
        Err(Error::Capacity(error)) => Received::violation(CloseCode::TooLarge, error.to_string()),
        Err(Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )) => Received::Gone,
        Err(error) => Received::violation(CloseCode::ProtocolError, error.to_string()),
    }))
}

/// The socket as tungstenite sees it: reads never wait, writes only gather.
struct Bare<'a> {
    stream: &'a TcpStream,
    replies: &'a mut Vec<u8>,
    bytes: usize,
    reads_left: usize,
}

impl Read for Bare<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The socket stays readable for the runtime, which comes back to it when others had their turn.
        self.reads_left = self.reads_left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        let read = self.stream.try_read(buffer)?;
        self.bytes += read;
        Ok(read)
    }
}

impl Write for Bare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
