//! A plain HTTP/1.1 client on a bare socket: nothing is hidden, added or retried.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A request to be sent on a socket of its own.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(address: SocketAddr, method: &str, path: &str) -> Request {
        let headers = vec![("host".to_owned(), address.to_string())];
        Request { address, method: method.to_owned(), path: path.to_owned(), headers, body: None }
    }

    /// Sets a header; one of the same name goes.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Request {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Request {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// The request as it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            text += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends, on a socket that the server closes after its answer.
    pub(crate) async fn send(self) -> Answer {
        let request = self.header("connection", "close");
        let mut stream = TcpStream::connect(request.address).await.expect("the server listens");
        // A server that refuses a large body may close before it read all of it.
        stream.write_all(&request.bytes()).await.ok();
        within("an answer", Answer::read(&mut stream)).await
    }

    /// Sends likewise to a server that may be dead, silent, or end within its answer. An error of kind
    /// `ConnectionRefused` means that nothing was sent.
    pub(crate) async fn try_send(self) -> io::Result<Answer> {
        let request = self.header("connection", "close");
        let mut stream = TcpStream::connect(request.address).await?;
        stream.write_all(&request.bytes()).await?;
        let (mut answer, rest) = try_read_head(&mut stream).await?;
        answer.body = rest;
        stream.read_to_end(&mut answer.body).await?;
        let whole =
            answer.header("content-length").is_some_and(|length| length == answer.body.len().to_string());
        if whole { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Answer {
    /// Reads until the server closes.
    pub(crate) async fn read(stream: &mut TcpStream) -> Answer {
        let (mut answer, rest) = read_head(stream).await;
        answer.body = rest;
        stream.read_to_end(&mut answer.body).await.ok();
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body);
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The sum of all series of a metric, with whatever labels contain `label`, where this is what `/metrics` answers.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.text();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
            (metric == name && labels.contains(label)).then(|| value.parse::<f64>().expect("a number"))
        });
        values.sum()
    }

    /// The slug of a problem, whose every part must agree.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        let waits = matches!(self.status, 429 | 503);
        assert_eq!(self.header("retry-after").is_some(), waits, "{self:?}");
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }
}

/// Reads an answer's head; returns it without a body, and what came after it.
pub(crate) async fn read_head(stream: &mut TcpStream) -> (Answer, Vec<u8>) {
    try_read_head(stream).await.unwrap_or_else(|error| panic!("no answer: {error}"))
}

/// The same of a server that may end before.
pub(crate) async fn try_read_head(stream: &mut TcpStream) -> io::Result<(Answer, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            let text = String::from_utf8_lossy(&bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("an end after {text:?}")));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let answer = Answer {
        status: status.unwrap_or_else(|| panic!("no status in {status_line:?}")),
        headers: lines.map(header).collect(),
        body: Vec::new(),
    };
    Ok((answer, bytes[end + 4..].to_vec()))
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16);
        let Ok(size) = size else { break };
        let chunk = bytes.get(end + 2..end + 2 + size).unwrap_or(&bytes[end + 2..]);
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}
