//! A WebSocket client that may say anything, in any order, and need not read.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::http::try_read_head;
use super::{Answer, Request, read_head, within};

/// A socket after the handshake.
pub(crate) struct RawWebSocket {
    pub(crate) stream: TcpStream,
    pub(crate) head: Answer,
    unread: Vec<u8>,
}

/// A frame of the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawFrame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    pub(crate) fn text(text: &str) -> RawFrame {
        RawFrame { first: 0x81, payload: text.as_bytes().to_vec() }
    }

    /// As clients send it: masked, here with zeros.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The code of a close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2).filter(|_| self.first == 0x88)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }
}

impl RawWebSocket {
    /// Shakes hands and reads `hello`.
    pub(crate) async fn connect(address: SocketAddr) -> RawWebSocket {
        let mut socket = RawWebSocket::handshake(address, None, &[]).await;
        let hello = socket.frame().await.expect("hello comes first");
        assert!(hello.payload.starts_with(b"{\"hello\""), "{hello:?}");
        socket
    }

    /// Shakes hands, with a receive buffer of about so many bytes and further headers.
    pub(crate) async fn handshake(
        address: SocketAddr,
        receive_bytes: Option<u32>,
        headers: &[(&str, &str)],
    ) -> RawWebSocket {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).expect("a buffer can be small");
        }
        let stream = socket.connect(address).await.expect("the server listens");
        let request =
            headers.iter().fold(request_to(address), |request, (name, value)| request.header(name, value));
        RawWebSocket::shake(stream, &request.bytes()).await
    }

    /// Shakes hands with a server that may refuse it: then the head of its answer, or `None` where there was none.
    pub(crate) async fn try_handshake(
        address: SocketAddr,
        headers: &[(&str, &str)],
    ) -> Result<RawWebSocket, Option<Answer>> {
        let request =
            headers.iter().fold(request_to(address), |request, (name, value)| request.header(name, value));
        let mut stream = TcpStream::connect(address).await.map_err(|_| None)?;
        stream.write_all(&request.bytes()).await.map_err(|_| None)?;
        let (head, unread) = try_read_head(&mut stream).await.map_err(|_| None)?;
        match head.status {
            101 => Ok(RawWebSocket { stream, head, unread }),
            _ => Err(Some(head)),
        }
    }

    /// The next frame, however long it takes; `None` once the server closed.
    pub(crate) async fn wait_for_frame(&mut self) -> Option<RawFrame> {
        self.read_frame().await
    }

    /// Says a frame in one write with the handshake, before its answer is known.
    pub(crate) async fn hasty(address: SocketAddr, frame: &RawFrame) -> RawWebSocket {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        RawWebSocket::shake(stream, &[request_to(address).bytes(), frame.bytes()].concat()).await
    }

    async fn shake(mut stream: TcpStream, bytes: &[u8]) -> RawWebSocket {
        stream.write_all(bytes).await.expect("the server reads");
        let (head, unread) = within("a handshake", read_head(&mut stream)).await;
        assert_eq!(head.status, 101, "{head:?}");
        RawWebSocket { stream, head, unread }
    }

    pub(crate) async fn send(&mut self, frame: &RawFrame) {
        self.send_bytes(&frame.bytes()).await;
    }

    /// Sends; a server that closed already is no failure here.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes)).await.ok();
    }

    /// The next frame; `None` once the server closed.
    pub(crate) async fn frame(&mut self) -> Option<RawFrame> {
        within("a frame", self.read_frame()).await
    }

    /// Reads to the end; returns the codes of all close frames.
    pub(crate) async fn close_codes(&mut self) -> Vec<u16> {
        let mut codes = Vec::new();
        while let Some(frame) = self.frame().await {
            codes.extend(frame.close_code());
        }
        codes
    }

    async fn read_frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((frame, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or_default() == 0 {
                return None;
            }
        }
    }
}

fn request_to(address: SocketAddr) -> Request {
    Request::new(address, "GET", "/ws")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn parse(bytes: &[u8]) -> Option<(RawFrame, usize)> {
    let (first, short) = (*bytes.first()?, usize::from(*bytes.get(1)?));
    let (length, begin) = match short {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (short, 2),
    };
    let payload = bytes.get(begin..begin + length)?.to_vec();
    Some((RawFrame { first, payload }, begin + length))
}
