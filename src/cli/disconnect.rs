//! `tidings disconnect`: ends connections, on all instances.

use std::io::{self, Write};

use clap::Args;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::operator::{Reach, ask, fail, print_body};
use super::target::TargetArgs;
use crate::config::Sources;

/// End the connections of a user, or one session, on whichever instance; exit code 1 if an instance did not answer
///
/// Needs an API key with `admin = true`. A token stays good until it expires: clients that obey stay away unless
/// `--reconnect` is given, others come back with it.
#[derive(Args, Clone)]
pub struct DisconnectArgs {
    /// All connections of this user
    #[arg(long, value_name = "NAME", required_unless_present = "session", conflicts_with = "session")]
    user: Option<String>,
    /// The session of this name, as `tidings connections` lists it
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// A sentence for whoever is disconnected, of at most 100 bytes
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Let the clients come back by themselves
    #[arg(long)]
    reconnect: bool,
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    reconnect: bool,
}

#[derive(Deserialize)]
struct Disconnected {
    disconnected: u64,
    #[serde(flatten)]
    reach: Reach,
}

/// `tidings disconnect`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &DisconnectArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let request = Request {
        user: args.user.as_deref(),
        session: args.session.as_deref(),
        reason: args.reason.as_deref(),
        reconnect: args.reconnect,
    };
    let request = serde_json::to_string(&request).expect("strings and a flag are JSON");
    let asked =
        ask::<Disconnected>(&args.target, sources, Method::POST, "/v1/disconnect", Some(request)).await;
    let (body, Disconnected { disconnected, reach }) = match asked {
        Ok(answered) => answered,
        Err(failed) => return fail(failed, err),
    };
    match args.json {
        true => print_body(&body, out)?,
        false => writeln!(out, "{disconnected} disconnected, instances: {}", reach.answered.len())?,
    }
    reach.exit(err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    async fn disconnect(answer: &str) -> (Exit, String, String, String) {
        let server = TinyServer::start(vec![Reply::json(200, answer)]).await;
        let args = DisconnectArgs {
            user: Some("ada".to_owned()),
            session: None,
            reason: Some("\"go\"".to_owned()),
            reconnect: true,
            json: false,
            target: server.target_args(),
        };
        let (exit, out, err) = output(async |out, err| run(&args, &Sources::default(), out, err).await).await;
        (exit, out, err, server.requests().await.remove(0))
    }

    #[tokio::test]
    async fn it_asks_for_what_was_said_and_prints_what_was_done() {
        let answer = r#"{"disconnected":3,"complete":true,"answered":["a","b"],"missing":[]}"#;
        let (exit, out, err, request) = disconnect(answer).await;
        assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, "3 disconnected, instances: 2\n", ""));
        assert!(request.starts_with("POST /v1/disconnect HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(r#"{"user":"ada","reason":"\"go\"","reconnect":true}"#), "{request}");
    }

    #[tokio::test]
    async fn an_instance_without_answer_is_a_failure() {
        let answer = r#"{"disconnected":1,"complete":false,"answered":["a"],"missing":["b","c"]}"#;
        let (exit, out, err, _) = disconnect(answer).await;
        assert_eq!((exit, out.as_str()), (Exit::Runtime, "1 disconnected, instances: 1\n"));
        assert!(err.starts_with("tidings: no answer from b, c: "), "{err}");
    }
}
