//! `tidings connections`: who is connected, on all instances.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use hyper::Method;
use serde::Deserialize;

use super::exit::{Exit, complain};
use super::operator::{Reach, ask, fail, print_body, print_table};
use super::target::TargetArgs;
use crate::config::Sources;

/// Print who is connected, on all instances; exit code 1 if one of them did not answer
///
/// Needs an API key with `admin = true`.
#[derive(Args, Clone)]
pub struct ConnectionsArgs {
    /// Only the connections of this user; the empty name is that of anonymous ones
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The most connections to list, at most 1000
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Deserialize)]
struct List {
    connections: Vec<Connection>,
    left_off: u64,
    #[serde(flatten)]
    reach: Reach,
}

#[derive(Deserialize)]
struct Connection {
    session: String,
    instance: String,
    user: Option<String>,
    transport: String,
    since: u64,
    channels: u32,
}

/// `tidings connections`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &ConnectionsArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let asked = ask::<List>(&args.target, sources, Method::GET, &args.path_and_query(), None).await;
    let (body, List { connections, left_off, reach }) = match asked {
        Ok(answered) => answered,
        Err(failed) => return fail(failed, err),
    };
    if args.json {
        print_body(&body, out)?;
        return reach.exit(err);
    }
    let head = ["session", "user", "transport", "since", "channels", "instance"];
    print_table(head, connections.into_iter().map(Connection::row), out)?;
    if left_off > 0 {
        complain(format_args!("{left_off} more are not listed"), err)?;
    }
    reach.exit(err)
}

impl ConnectionsArgs {
    fn path_and_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        if let Some(user) = &self.user {
            query.append_pair("user", user);
        }
        format!("/v1/connections?{}", query.finish())
    }
}

impl Connection {
    fn row(self) -> [String; 6] {
        let user = match self.user {
            None => "(not known yet)".to_owned(),
            Some(user) if user.is_empty() => "(anonymous)".to_owned(),
            Some(user) => user,
        };
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(self.since));
        let since =
            since.map_or("?".to_owned(), |since| humantime::format_rfc3339_seconds(since).to_string());
        [self.session, user, self.transport, since, self.channels.to_string(), self.instance]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    const LIST: &str = r#"{"connections":[
        {"session":"aaaaaa-7","instance":"aaaaaa","user":"ada","transport":"websocket","since":1767225600123,"channels":2},
        {"session":"bbbbbb-9","instance":"bbbbbb","user":"","transport":"sse","since":0,"channels":1}],
        "left_off":5,"complete":false,"answered":["aaaaaa","bbbbbb"],"missing":["cccccc"]}"#;

    #[tokio::test]
    async fn every_connection_has_a_line_and_what_is_missing_is_said() {
        let server = TinyServer::start(vec![Reply::json(200, LIST)]).await;
        let user = Some("a da&".to_owned());
        let args = ConnectionsArgs { user, limit: 2, json: false, target: server.target_args() };
        let (exit, out, err) = output(async |out, err| run(&args, &Sources::default(), out, err).await).await;
        assert_eq!(exit, Exit::Runtime);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "aaaaaa-7  ada          websocket  2026-01-01T00:00:00Z  2         aaaaaa",
                "bbbbbb-9  (anonymous)  sse        1970-01-01T00:00:00Z  1         bbbbbb",
            ]
        );
        assert!(err.starts_with("tidings: 5 more are not listed\ntidings: no answer from cccccc: "), "{err}");
        let requests = server.requests().await;
        assert!(
            requests[0].starts_with("GET /v1/connections?limit=2&user=a+da%26 HTTP/1.1\r\n"),
            "{requests:?}"
        );
    }
}
