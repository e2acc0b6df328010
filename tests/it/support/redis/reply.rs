//! The least of Redis's protocol (RESP2) that tests need: one command on a connection of its own, and its answer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A server that does not answer a test within this time is stopped or stalled.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What Redis answered; its errors are answers too.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Integer(i64),
    Text(String),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// Sends one command over a new connection. An error is of the connection, or its silence.
    pub(crate) async fn ask(address: SocketAddr, words: &[&str]) -> io::Result<Reply> {
        let asked = async {
            let mut stream = BufReader::new(TcpStream::connect(address).await?);
            let mut bytes = format!("*{}\r\n", words.len());
            for word in words {
                bytes += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(bytes.as_bytes()).await?;
            Reply::read(&mut stream).await
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await?
    }

    /// The text of an answer that must be one.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        match self {
            Reply::Text(text) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The number of an answer that must be one.
    #[track_caller]
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Reply::Integer(number) => *number,
            other => panic!("expected a number, got {other:?}"),
        }
    }

    /// The parts of an answer that must be a list.
    #[track_caller]
    pub(crate) fn list(&self) -> &[Reply] {
        match self {
            Reply::List(parts) => parts,
            other => panic!("expected a list, got {other:?}"),
        }
    }

    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(|_| io::Error::from(ErrorKind::InvalidData));
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Integer(number()?)),
            "$" | "*" if number()? < 0 => Ok(Reply::Nil),
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                stream.read_exact(&mut bytes).await?;
                bytes.truncate(bytes.len() - 2);
                Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
            }
            "*" => {
                let mut parts = Vec::new();
                for _ in 0..number()? {
                    parts.push(Box::pin(Reply::read(stream)).await?);
                }
                Ok(Reply::List(parts))
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}
