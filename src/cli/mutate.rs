//! `tidings mutate` and `tidings invalidate`: one event of a mutation log over HTTP, again where that is safe.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_protocol::{LogName, Row, Tag};

use super::exit::Exit;
use super::post::Post;
use super::random;
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// Say that something was changed, and print the position of that
///
/// The server's rules say which tags that touches; `tidings rules test` shows them. A failed attempt is repeated up to 3 times. That is
/// safe: an id, random where none is given, makes the server write it once.
#[derive(Args, Clone)]
pub struct MutateArgs {
    /// What kind of thing, such as `ticket`
    #[arg(value_name = "ENTITY")]
    entity: String,
    /// Which of that kind, such as `42`
    #[arg(value_name = "KEY")]
    key: String,
    /// What was done to it
    #[arg(long, value_name = "OP", value_parser = ["create", "update", "delete"])]
    op: String,
    /// The row as it was: a JSON object
    #[arg(long, value_name = "JSON", value_parser = row)]
    before: Option<Box<RawValue>>,
    /// The row as it is: a JSON object
    #[arg(long, value_name = "JSON", value_parser = row)]
    after: Option<Box<RawValue>>,
    /// A tag that it touches beside those of the rules; can be repeated
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Vec<String>,
    #[command(flatten)]
    writing: WriteArgs,
}

/// Say that tags were touched, and print the position of that
///
/// A failed attempt is repeated up to 3 times, and counts once.
#[derive(Args, Clone)]
pub struct InvalidateArgs {
    /// The tags: `tickets`, `ticket:42`, or a subtree such as `ticket:*`
    #[arg(value_name = "TAG", required = true, value_parser = tag)]
    tags: Vec<String>,
    #[command(flatten)]
    writing: WriteArgs,
}

/// Where it is written, and how.
#[derive(Args, Clone)]
struct WriteArgs {
    /// Makes repeats of the same one, for 10 minutes; random if absent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The mutation log [default: default]
    #[arg(long, value_name = "NAME", value_parser = log_name)]
    ns: Option<String>,
    /// What must be known before the answer [default: the server's, which is replicated where there are replicas]
    #[arg(long, value_name = "LEVEL", value_parser = ["none", "stored", "replicated"])]
    ack: Option<String>,
    /// Print the server's whole answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Serialize)]
struct MutationBody<'a> {
    entity: &'a str,
    key: &'a str,
    op: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ns: Option<&'a str>,
}

#[derive(Serialize)]
struct InvalidationBody<'a> {
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ns: Option<&'a str>,
}

/// `tidings mutate`. Fails only where `out` or `err` cannot be written.
pub async fn mutate(
    args: &MutateArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let MutateArgs { entity, key, op, before, after, tag, writing } = args;
    let (before, after, ns) = (before.as_deref(), after.as_deref(), writing.ns.as_deref());
    let body = MutationBody { entity, key, op, before, after, tags: tag, ns };
    writing.send("/v1/mutations", &body, sources, out, err).await
}

/// `tidings invalidate`. Fails only where `out` or `err` cannot be written.
pub async fn invalidate(
    args: &InvalidateArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let InvalidateArgs { tags, writing } = args;
    let body = InvalidationBody { tags, ns: writing.ns.as_deref() };
    writing.send("/v1/invalidate", &body, sources, out, err).await
}

impl WriteArgs {
    async fn send(
        &self,
        path: &str,
        body: &impl Serialize,
        sources: &Sources,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<Exit> {
        let target = match Target::new(&self.target, &sources.env) {
            Ok(target) => target,
            Err(invalid) => return Exit::Usage.because(invalid, err),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("idempotency_key", &self.idempotency_key.clone().unwrap_or_else(random::name));
        if let Some(ack) = &self.ack {
            query.append_pair("ack", ack);
        }
        let post = Post {
            path_and_query: format!("{path}?{}", query.finish()),
            content_type: Some("application/json"),
            body: serde_json::to_vec(body).expect("texts and what was JSON is JSON").into(),
        };
        post.run(&target, self.json, out, err).await
    }
}

fn row(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str::<Row>(text).map_err(|error| format!("a row is a JSON object: {error}"))?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn tag(text: &str) -> Result<String, String> {
    Tag::parse(text).map(|_| text.to_owned()).map_err(|invalid| invalid.to_string())
}

fn log_name(text: &str) -> Result<String, String> {
    LogName::parse(text).map(|_| text.to_owned()).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        Mutate(MutateArgs),
        Invalidate(InvalidateArgs),
    }

    const STORED: &str = r#"{"position":{"epoch":"7-k3v9q","offset":42},"ack":"stored"}"#;

    /// What the command prints, and the requests that it made of a server with these replies.
    async fn run(args: &str, replies: Vec<Reply>) -> (Exit, String, Vec<String>) {
        let server = TinyServer::start(replies).await;
        let url = server.target_args().url;
        let mut cli = Cli::parse_from(["tidings"].into_iter().chain(args.split(' ')));
        let (exit, out, _) = output(async |out, err| match &mut cli.command {
            Command::Mutate(args) => {
                args.writing.target.url = url.clone();
                mutate(args, &Sources::default(), out, err).await
            }
            Command::Invalidate(args) => {
                args.writing.target.url = url.clone();
                invalidate(args, &Sources::default(), out, err).await
            }
        })
        .await;
        (exit, out, server.requests().await)
    }

    #[tokio::test]
    async fn arguments_become_the_body_and_the_query() {
        for (args, path, body) in [
            (
                "mutate ticket 42 --op update --before {\"n\":1.50} --after {} --tag a:* --idempotency-key m1 --ns shop --ack stored",
                "/v1/mutations?idempotency_key=m1&ack=stored",
                r#"{"entity":"ticket","key":"42","op":"update","before":{"n":1.50},"after":{},"tags":["a:*"],"ns":"shop"}"#,
            ),
            (
                "invalidate tickets ticket:* --idempotency-key i1",
                "/v1/invalidate?idempotency_key=i1",
                r#"{"tags":["tickets","ticket:*"]}"#,
            ),
        ] {
            let (exit, out, requests) = run(args, vec![Reply::json(200, STORED)]).await;
            assert_eq!((exit, out.as_str()), (Exit::Ok, "7-k3v9q.42\n"), "{args}");
            assert!(requests[0].starts_with(&format!("POST {path} ")), "{}", requests[0]);
            assert!(requests[0].ends_with(body), "{}", requests[0]);
        }
    }

    #[tokio::test]
    async fn a_repeat_has_the_same_idempotency_key() {
        let busy = Reply::json(503, r#"{"code":"broker_unavailable","detail":"later","status":503}"#);
        let (exit, _, requests) = run("invalidate a", vec![busy, Reply::json(200, STORED)]).await;
        assert_eq!((exit, requests.len()), (Exit::Ok, 2));
        assert_eq!(requests[0], requests[1]);
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_here() {
        for args in [
            "mutate ticket 42",
            "mutate ticket 42 --op upsert",
            "mutate ticket 42 --op update --after [1]",
            "mutate ticket 42 --op update --tag a*",
            "invalidate",
            "invalidate a*",
            "invalidate a --ns a:b",
        ] {
            let args = ["tidings"].into_iter().chain(args.split(' '));
            assert!(Cli::try_parse_from(args.clone()).is_err(), "{args:?}");
        }
    }
}
