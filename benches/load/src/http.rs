//! As much HTTP/1.1 as a load generator needs: requests, response heads, and one keep-alive connection that publishes,
//! which blocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::chunked::Chunked;
use crate::error::LoadError;

/// A response head over this is refused. Servers send some 200 bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A body over this is refused: the generator reads acknowledgements and problems, both below 1 KiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longer than the server's own limit for a publish (2 s), so that it is the server who says that it does not know.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that are not the HTTP they should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("response head over {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    #[error("not a response head: {0:?}")]
    BadHead(String),
    #[error("body over {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
}

/// The server under load: where it listens and what it demands.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    host: String,
    credential: Option<String>,
}

impl Target {
    /// Reads `http://HOST:PORT`. Only loopback addresses are taken: load belongs on machines of one's own.
    pub(crate) fn parse(url: &str, credential: Option<&str>) -> Result<Target, LoadError> {
        let usage = |problem: String| LoadError::Usage(format!("server {url:?}: {problem}"));
        let host = url
            .strip_prefix("http://")
            .ok_or_else(|| usage("only http:// is spoken here, as in http://127.0.0.1:8080".into()))?
            .trim_end_matches('/');
        let named = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = named
            .to_socket_addrs()
            .map_err(|error| usage(error.to_string()))?
            .find(|address| address.ip().is_loopback())
            .ok_or_else(|| usage("not a loopback address: run the generator beside the server".into()))?;
        Ok(Target { address, host: host.to_owned(), credential: credential.map(str::to_owned) })
    }

    /// A whole request; `headers` are complete lines, each ending in CR LF.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}", self.host);
        if let Some(credential) = &self.credential {
            request += &format!("authorization: Bearer {credential}\r\n");
        }
        if method == "POST" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

/// Percent-encodes what may not stand in one path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Status and headers of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head, its blank line included: the body starts here.
    pub(crate) length: usize,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The head that `bytes` start with; `None` while it is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(HttpError::HeadTooLarge) } else { Ok(None) };
        };
        let text = String::from_utf8_lossy(&bytes[..end]);
        let bad = || HttpError::BadHead(text.chars().take(80).collect());
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(bad)?;
        let headers = lines
            .map(|line| line.split_once(':').ok_or_else(bad))
            .map(|pair| pair.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Some(Head { status, length: end + 4, headers }))
    }

    /// Value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Bytes of a body that does not come in chunks; an error over what is ever read.
    pub(crate) fn body_length(&self) -> io::Result<usize> {
        let length = self.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        if length > BODY_BYTES_MAX {
            return Err(io::Error::other(HttpError::BodyTooLarge));
        }
        Ok(length)
    }

    /// Whether the body comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// One keep-alive connection that sends a request and waits for its answer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(target: &Target) -> io::Result<Connection> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection { stream, received: Vec::new() })
    }

    /// Sends `request` and reads its answer. After an error the connection is of no more use.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request)?;
        let head = loop {
            match Head::parse(&self.received).map_err(io::Error::other)? {
                Some(head) => break head,
                None => self.read_more()?,
            }
        };
        self.received.drain(..head.length);
        let body =
            if head.is_chunked() { self.chunked_body()? } else { self.sized_body(head.body_length()?)? };
        Ok(Response { status: head.status, body })
    }

    fn sized_body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < length {
            self.read_more()?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn chunked_body(&mut self) -> io::Result<Vec<u8>> {
        let (mut body, mut chunked) = (Vec::new(), Chunked::new());
        loop {
            // No request is ever sent ahead, so that everything received belongs to this answer.
            chunked
                .feed(&std::mem::take(&mut self.received), |data| body.extend_from_slice(data))
                .map_err(io::Error::other)?;
            if chunked.is_done() {
                return Ok(body);
            }
            if body.len() > BODY_BYTES_MAX {
                return Err(io::Error::other(HttpError::BodyTooLarge));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\nrest";
        let head = Head::parse(bytes).unwrap().unwrap();
        assert_eq!((head.status, head.header("content-length"), head.is_chunked()), (200, Some("7"), true));
        assert_eq!(&bytes[head.length..], b"rest");
        assert_eq!(Head::parse(&bytes[..head.length - 1]), Ok(None));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert!(matches!(Head::parse(b"SSH-2.0-x\r\n\r\n"), Err(HttpError::BadHead(_))));
        assert_eq!(Head::parse(&vec![b'a'; HEAD_BYTES_MAX + 1]), Err(HttpError::HeadTooLarge));
    }

    #[test]
    fn only_loopback_urls_are_targets() {
        assert!(Target::parse("http://127.0.0.1:8080/", None).is_ok());
        for url in ["http://192.0.2.1:80", "https://127.0.0.1:80", "127.0.0.1:80", "http://127.0.0.1:x"] {
            assert!(matches!(Target::parse(url, None), Err(LoadError::Usage(_))), "{url}");
        }
    }

    #[test]
    fn a_channel_is_one_segment_of_a_path() {
        assert_eq!(escape("room:7/a b"), "room%3A7%2Fa%20b");
        assert_eq!(escape("bench-1.x~_"), "bench-1.x~_");
    }
}
