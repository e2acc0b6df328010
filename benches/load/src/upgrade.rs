//! A WebSocket that is open, and nothing asked for on it yet.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{Head, Target};
use crate::websocket;

/// The connection, and what came behind the response head.
pub(crate) async fn upgraded(target: &Target) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&target.request("GET", "/ws", &websocket::upgrade_headers(), b"")).await?;
    let mut received = Vec::new();
    let head = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(head) = Head::parse(&received).map_err(io::Error::other)? {
            break head;
        }
    };
    if head.status != 101 {
        return Err(io::Error::other(format!("handshake answered by {}", head.status)));
    }
    Ok((stream, received.split_off(head.length)))
}
