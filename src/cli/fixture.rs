//! What the tests of commands share: captured output, and a tiny server that answers as it is told.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::exit::Exit;
use super::target::TargetArgs;

/// Exit, standard output and standard error of a command.
pub(super) fn written(
    command: impl FnOnce(&mut dyn Write, &mut dyn Write) -> io::Result<Exit>,
) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = command(&mut out, &mut err).expect("a vector can be written");
    (exit, text(out), text(err))
}

/// The same of a command that waits.
pub(super) async fn output(
    command: impl AsyncFnOnce(&mut dyn Write, &mut dyn Write) -> io::Result<Exit>,
) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = command(&mut out, &mut err).await.expect("a vector can be written");
    (exit, text(out), text(err))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("output is text")
}

/// How the tiny server treats one connection.
pub(super) enum Reply {
    /// This is the answer, whole, and then the connection closes.
    Http(String),
    /// The connection closes without an answer.
    Nothing,
}

impl Reply {
    pub(super) fn json(status: u16, body: &str) -> Reply {
        Reply::with(status, "", body)
    }

    /// `headers` are whole lines.
    pub(super) fn with(status: u16, headers: &str, body: &str) -> Reply {
        let length = body.len();
        let status = hyper::StatusCode::from_u16(status).expect("a status");
        Reply::Http(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
    }

    /// An event stream that breaks off after `events`.
    pub(super) fn events(events: &str) -> Reply {
        Reply::Http(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{events}"))
    }
}

/// Answers one request per connection; its listener closes after the last reply.
pub(super) struct TinyServer {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TinyServer {
    pub(super) async fn start(replies: Vec<Reply>) -> TinyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = requests.clone();
        let task = tokio::spawn(async move {
            for reply in replies {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let request = read_request(&mut stream).await;
                heard.lock().expect("nobody panics holding it").push(request);
                if let Reply::Http(text) = reply {
                    stream.write_all(text.as_bytes()).await.expect("is written");
                }
            }
        });
        TinyServer { address, requests, task }
    }

    pub(super) fn target_args(&self) -> TargetArgs {
        target_args(&self.address)
    }

    /// What was asked, head and body of each request, once every reply was given.
    pub(super) async fn requests(self) -> Vec<String> {
        self.task.await.expect("the server does not panic");
        std::mem::take(&mut self.requests.lock().expect("nobody panics holding it"))
    }
}

/// The arguments for an address.
pub(super) fn target_args(address: &str) -> TargetArgs {
    TargetArgs { url: Some(format!("http://{address}")), ..TargetArgs::default() }
}

/// An address where nobody listens.
pub(super) async fn nobody() -> TargetArgs {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    target_args(&listener.local_addr().expect("is bound").to_string())
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.map_or(0, |digits| digits.parse().expect("a length"));
            if request.len() >= end + 4 + length {
                return String::from_utf8(request).expect("requests of the tests are text");
            }
        }
        let read = stream.read_buf(&mut request).await.expect("can be read");
        assert!(read > 0, "the client went away within its request");
    }
}
