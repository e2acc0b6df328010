//! `tidings cluster`: which instances there are.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::Deserialize;

use super::exit::Exit;
use super::operator::{ask, fail, print_body, print_table};
use super::target::TargetArgs;
use crate::config::Sources;

/// Print the instances that share channels; exit code 1 if one of them is silent, or configured otherwise
///
/// Needs an API key with `admin = true`.
#[derive(Args, Clone)]
pub struct ClusterArgs {
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Deserialize)]
struct View {
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    id: String,
    address: String,
    version: String,
    uptime_ms: u64,
    connections: u64,
    silent: bool,
    silent_ms: u64,
    /// An older server does not say it.
    #[serde(default)]
    differences: Vec<String>,
}

/// `tidings cluster`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &ClusterArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let asked = ask::<View>(&args.target, sources, Method::GET, "/v1/cluster", None).await;
    let (body, view) = match asked {
        Ok(answered) => answered,
        Err(failed) => return fail(failed, err),
    };
    let is_well = |instance: &Instance| !instance.silent && instance.differences.is_empty();
    let all_well = view.instances.iter().all(is_well);
    match args.json {
        true => print_body(&body, out)?,
        false => print_table(
            ["id", "address", "version", "up", "connections", "silent", "differs in"],
            view.instances.into_iter().map(Instance::row),
            out,
        )?,
    }
    Ok(if all_well { Exit::Ok } else { Exit::Runtime })
}

impl Instance {
    fn row(self) -> [String; 7] {
        let silent = if self.silent { seconds(self.silent_ms) } else { "no".to_owned() };
        let up = seconds(self.uptime_ms);
        let differs = if self.differences.is_empty() { "-".to_owned() } else { self.differences.join(", ") };
        [self.id, self.address, self.version, up, self.connections.to_string(), silent, differs]
    }
}

/// Whole seconds, as `1h 2m 3s`.
fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    const VIEW: &str = r#"{"instances":[
        {"id":"aaaaaa","address":"10.0.0.7:8080","version":"0.1.0","uptime_ms":3723999,"connections":12,"silent":false,"silent_ms":400},
        {"id":"bbbbbb","address":"b","version":"0.1.0","uptime_ms":0,"connections":0,"silent":true,"silent_ms":9100,
         "differences":["namespaces","secrets"]}]}"#;

    async fn cluster(reply: Reply, json: bool) -> (Exit, String, String) {
        let server = TinyServer::start(vec![reply]).await;
        let args = ClusterArgs { json, target: server.target_args() };
        let printed = output(async |out, err| run(&args, &Sources::default(), out, err).await).await;
        assert!(server.requests().await[0].starts_with("GET /v1/cluster HTTP/1.1\r\n"));
        printed
    }

    #[tokio::test]
    async fn every_instance_has_a_line_and_silence_is_a_failure() {
        let (exit, out, err) = cluster(Reply::json(200, VIEW), false).await;
        assert_eq!((exit, err.as_str()), (Exit::Runtime, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines,
            [
                "id      address        version  up        connections  silent  differs in",
                "aaaaaa  10.0.0.7:8080  0.1.0    1h 2m 3s  12           no      -",
                "bbbbbb  b              0.1.0    0s        0            9s      namespaces, secrets",
            ]
        );
        let (exit, out, _) = cluster(Reply::json(200, r#"{"instances":[]}"#), true).await;
        assert_eq!((exit, out.as_str()), (Exit::Ok, "{\"instances\":[]}\n"));
    }

    #[tokio::test]
    async fn a_refusal_is_said_in_the_servers_words() {
        let refusal = r#"{"code":"operation_not_allowed","detail":"the words"}"#;
        let (exit, out, err) = cluster(Reply::json(403, refusal), false).await;
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert_eq!(err, "tidings: operation_not_allowed: the words\n");
    }
}
