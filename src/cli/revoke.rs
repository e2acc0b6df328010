//! `tidings revoke`: takes tokens back before they end by themselves, on all instances.

use std::io::{self, Write};

use clap::Args;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::operator::{Reach, ask, fail, print_body};
use super::target::TargetArgs;
use crate::config::Sources;

/// Refuse the tokens of a user, or one token, from now on, and end their connections, on all instances; exit code 1 if an
/// instance did not answer
///
/// Needs an API key with `admin = true`. Tokens of the user that are issued later hold.
#[derive(Args, Clone)]
pub struct RevokeArgs {
    /// All tokens of this user that were issued until now
    #[arg(long, value_name = "NAME", required_unless_present = "token_id", conflicts_with = "token_id")]
    user: Option<String>,
    /// The token of this name, its `jti`
    #[arg(long, value_name = "NAME")]
    token_id: Option<String>,
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
    token_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Revoked {
    disconnected: u64,
    kept: bool,
    #[serde(flatten)]
    reach: Reach,
}

/// `tidings revoke`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &RevokeArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let request = Request { user: args.user.as_deref(), token_id: args.token_id.as_deref() };
    let request = serde_json::to_string(&request).expect("strings are JSON");
    let asked = ask::<Revoked>(&args.target, sources, Method::POST, "/v1/revoke", Some(request)).await;
    let (body, Revoked { disconnected, kept, reach }) = match asked {
        Ok(answered) => answered,
        Err(failed) => return fail(failed, err),
    };
    match args.json {
        true => print_body(&body, out)?,
        false => writeln!(out, "revoked; {disconnected} disconnected, instances: {}", reach.answered.len())?,
    }
    if !kept {
        let words =
            "the revocation is not kept: instances that start before the broker is back do not know it";
        Exit::Runtime.because(words, err)?;
        reach.exit(err)?;
        return Ok(Exit::Runtime);
    }
    reach.exit(err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    async fn revoke(answer: &str) -> (Exit, String, String, String) {
        let server = TinyServer::start(vec![Reply::json(200, answer)]).await;
        let args = RevokeArgs {
            user: Some("ada".to_owned()),
            token_id: None,
            json: false,
            target: server.target_args(),
        };
        let (exit, out, err) = output(async |out, err| run(&args, &Sources::default(), out, err).await).await;
        (exit, out, err, server.requests().await.remove(0))
    }

    #[tokio::test]
    async fn it_asks_for_what_was_said_and_prints_what_was_done() {
        let answer = r#"{"revoked_at":5,"disconnected":3,"kept":true,"complete":true,"answered":["a","b"],"missing":[]}"#;
        let (exit, out, err, request) = revoke(answer).await;
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        assert_eq!(out, "revoked; 3 disconnected, instances: 2\n");
        assert!(request.starts_with("POST /v1/revoke HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(r#"{"user":"ada"}"#), "{request}");
    }

    #[tokio::test]
    async fn what_is_not_kept_or_not_told_to_all_is_a_failure() {
        for (answer, words) in [
            (
                r#"{"revoked_at":5,"disconnected":0,"kept":false,"complete":false,"answered":["a"],"missing":[]}"#,
                "is not kept",
            ),
            (
                r#"{"revoked_at":5,"disconnected":0,"kept":true,"complete":false,"answered":["a"],"missing":["b"]}"#,
                "no answer from b",
            ),
        ] {
            let (exit, _, err, _) = revoke(answer).await;
            assert!(exit == Exit::Runtime && err.contains(words), "{err}");
        }
    }
}
