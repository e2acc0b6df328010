//! `tidings pub`: one publication over HTTP, again where that is safe.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode};
use tidings_protocol::{Channel, Code, Problem, PublishedFrame};

use super::backoff::Backoff;
use super::exit::{Exit, complain};
use super::http::{self, Answer};
use super::random;
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// The most bytes that are read: what a server takes where nothing else is configured.
const DATA_BYTES_MAX: usize = 1_000_000;

/// How often a publish is sent again. With pauses of up to 300, 600 and 1,200 ms that outlasts a broker's failover
/// now and then, and never keeps a script waiting for long.
const RETRIES_MAX: u32 = 3;

/// The longest pause that a server may ask for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(20);

/// Publish on a channel, and print the position of the publication
///
/// A failed attempt is repeated up to 3 times. That is safe: an idempotency key, random where none is given, makes the
/// server store the publication once. A channel without history has no positions, so nothing is printed then.
#[derive(Args, Clone)]
pub struct PublishArgs {
    /// The channel, such as `tickets` or `room:7`
    #[arg(value_name = "CHANNEL")]
    channel: String,
    /// The data: JSON if it parses as that, else text; read from standard input if absent
    #[arg(value_name = "DATA", allow_negative_numbers = true)]
    data: Option<String>,
    /// The data is text, even where it looks like JSON
    #[arg(long)]
    text: bool,
    /// Publish the bytes of this file as they are; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text"])]
    bytes_from: Option<PathBuf>,
    /// Name of the publication, which subscribers see
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Key by which namespaces that keep only the latest tell publications apart
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Makes repeated publishes of the same data one publication, for 10 minutes; random if absent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// What must be known before the answer [default: the server's, which is stored]
    #[arg(long, value_name = "LEVEL", value_parser = ["none", "stored", "replicated"])]
    ack: Option<String>,
    /// Print the server's whole answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// `tidings pub`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &PublishArgs,
    sources: &Sources,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let target = match Target::new(&args.target, &sources.env) {
        Ok(target) => target,
        Err(invalid) => return Exit::Usage.because(invalid, err),
    };
    let publish = match Publish::new(args, input) {
        Ok(publish) => publish,
        Err(words) => return Exit::Runtime.because(words, err),
    };
    match publish.send(&target, err).await? {
        Err(words) => Exit::Runtime.because(words, err),
        Ok(answer) if args.json => {
            out.write_all(answer.body.trim_ascii_end())?;
            writeln!(out)?;
            Ok(Exit::Ok)
        }
        Ok(answer) => match serde_json::from_slice::<PublishedFrame>(&answer.body) {
            Ok(PublishedFrame { position: Some(position), .. }) => {
                writeln!(out, "{position}")?;
                Ok(Exit::Ok)
            }
            Ok(PublishedFrame { position: None, .. }) => Ok(Exit::Ok),
            Err(error) => {
                Exit::Runtime.because(format_args!("the server's answer cannot be read: {error}"), err)
            }
        },
    }
}

/// What is sent, as often as needed.
struct Publish {
    path_and_query: String,
    /// `None` leaves it to the server: JSON if it parses, else text.
    content_type: Option<&'static str>,
    data: Bytes,
}

impl Publish {
    fn new(args: &PublishArgs, input: &mut dyn Read) -> Result<Publish, String> {
        let channel = Channel::parse(&args.channel)
            .map_err(|invalid| Problem::new(Code::ChannelInvalid, invalid.to_string()).to_string())?;
        let idempotency_key = args.idempotency_key.clone().unwrap_or_else(random::name);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("idempotency_key", &idempotency_key);
        for (name, value) in [("id", &args.id), ("key", &args.key), ("ack", &args.ack)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        // Of the characters that channels are made of, a path segment can hold all but one.
        let segment = channel.as_str().replace('/', "%2F");
        Ok(Publish {
            path_and_query: format!("/v1/publish/{segment}?{}", query.finish()),
            content_type: match (&args.bytes_from, args.text) {
                (Some(_), _) => Some("application/octet-stream"),
                (None, true) => Some("text/plain; charset=utf-8"),
                (None, false) => None,
            },
            data: data(args, input)?,
        })
    }

    /// The answer, or what went wrong in the end.
    async fn send(&self, target: &Target, err: &mut dyn Write) -> io::Result<Result<Answer, String>> {
        let mut backoff = Backoff::default();
        for left in (0..=RETRIES_MAX).rev() {
            let (words, retry_after) = match http::fetch(target, self.request(target)).await {
                Ok(answer) if answer.status.is_success() => return Ok(Ok(answer)),
                Ok(answer) if is_worth_another(answer.status) => (answer.problem(), answer.retry_after),
                Ok(answer) => return Ok(Err(answer.problem())),
                Err(error) => (error.to_string(), None),
            };
            if left == 0 {
                return Ok(Err(words));
            }
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let pause = backoff.next(random::unit()).max(asked);
            complain(format_args!("{words}; trying again in {} ms", pause.as_millis()), err)?;
            tokio::time::sleep(pause).await;
        }
        unreachable!("the last attempt returns")
    }

    fn request(&self, target: &Target) -> Request<Full<Bytes>> {
        let mut request = http::request(target, Method::POST, &self.path_and_query);
        if let Some(content_type) = self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(Full::new(self.data.clone())).expect("path, query and headers were encoded")
    }
}

/// Nothing or nobody knows what was stored: the idempotency key makes another attempt safe.
fn is_worth_another(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn data(args: &PublishArgs, input: &mut dyn Read) -> Result<Bytes, String> {
    match (&args.bytes_from, &args.data) {
        (Some(path), _) if path == Path::new("-") => bounded("standard input", input).map(Bytes::from),
        (Some(path), _) => {
            let name = path.display().to_string();
            let mut file = File::open(path).map_err(|error| format!("cannot read {name}: {error}"))?;
            bounded(&name, &mut file).map(Bytes::from)
        }
        (None, Some(data)) => Ok(Bytes::copy_from_slice(data.as_bytes())),
        (None, None) => {
            let mut data = bounded("standard input", input)?;
            // `echo` ends text with a line feed that nobody meant to publish.
            if data.pop_if(|byte| *byte == b'\n').is_some() {
                data.pop_if(|byte| *byte == b'\r');
            }
            Ok(data.into())
        }
    }
}

fn bounded(name: &str, input: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    let read = input.take(DATA_BYTES_MAX as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if data.len() > DATA_BYTES_MAX {
        let message =
            format!("{name} has more than {DATA_BYTES_MAX} bytes: publish a reference to it instead");
        return Err(Problem::new(Code::TooLarge, message).to_string());
    }
    Ok(data)
}

#[cfg(test)]
mod tests;
