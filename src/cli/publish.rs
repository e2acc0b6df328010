//! `tidings pub`: one publication over HTTP, again where that is safe.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use tidings_protocol::{Channel, Code, Problem};

use super::exit::Exit;
use super::post::Post;
use super::random;
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// The most bytes that are read: what a server takes where nothing else is configured.
const DATA_BYTES_MAX: usize = 1_000_000;

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
    match post(args, input) {
        Ok(post) => post.run(&target, args.json, out, err).await,
        Err(words) => Exit::Runtime.because(words, err),
    }
}

fn post(args: &PublishArgs, input: &mut dyn Read) -> Result<Post, String> {
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
    Ok(Post {
        path_and_query: format!("/v1/publish/{segment}?{}", query.finish()),
        content_type: match (&args.bytes_from, args.text) {
            (Some(_), _) => Some("application/octet-stream"),
            (None, true) => Some("text/plain; charset=utf-8"),
            (None, false) => None,
        },
        body: data(args, input)?,
    })
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
