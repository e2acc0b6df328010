//! One keep-alive connection with one request under way.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::LoadError;
use crate::http::{Head, Target};

/// Longer than the server's own limit for a publish (2 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is below 1 KiB.
const ANSWER_BYTES: usize = 1024;

/// The connection.
#[derive(Debug)]
pub(crate) struct Lane {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Lane {
    pub(crate) async fn open(target: &Target) -> Result<Lane, LoadError> {
        let connected = async {
            let stream = TcpStream::connect(target.address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connected.await.map_err(LoadError::io("connect a publisher"))?;
        Ok(Lane { stream, received: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Sends a request, called `name` in errors; an error if it is not answered by 200.
    pub(crate) async fn demand(
        &mut self,
        request: &[u8],
        name: impl Fn() -> String,
    ) -> Result<(), LoadError> {
        let exchange = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request));
        let (status, body) = exchange
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
            .map_err(|error| LoadError::io(format!("{} was not answered", name()))(error))?;
        match status {
            200 => Ok(()),
            _ => Err(LoadError::Peer(format!("{} was answered by {status}: {body}", name()))),
        }
    }

    /// Status and body of the answer.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = Head::parse(&self.received).map_err(io::Error::other)? else { continue };
            // No request is sent ahead, so that everything received belongs to this answer.
            if self.received.len() >= head.length + head.body_length()? {
                let body = String::from_utf8_lossy(&self.received[head.length..]).into_owned();
                return Ok((head.status, body));
            }
        }
    }
}
