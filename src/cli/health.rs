//! `tidings health`: what a server says of itself.

use std::io::{self, Write};

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::exit::{Exit, printable};
use super::http::{self, Answer};
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// Print what a server says of its health; exit code 0 if all is well, 1 if not
#[derive(Args, Clone)]
pub struct HealthArgs {
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// `tidings health`. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &HealthArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let target = match Target::new(&args.target, &sources.env) {
        Ok(target) => target,
        Err(invalid) => return Exit::Usage.because(invalid, err),
    };
    let request = http::request(&target, Method::GET, "/health").body(Full::<Bytes>::default());
    let answer = match http::fetch(&target, request.expect("a fixed path")).await {
        Ok(answer) => answer,
        Err(error) => return Exit::Runtime.because(error, err),
    };
    let Some(report) = Report::read(&answer) else {
        return Exit::Runtime.because(answer.problem(), err);
    };
    if args.json {
        out.write_all(answer.body.trim_ascii_end())?;
        writeln!(out)?;
    } else {
        report.print(&target, out)?;
    }
    Ok(if answer.status == StatusCode::OK { Exit::Ok } else { Exit::Runtime })
}

#[derive(Deserialize)]
struct Report {
    status: String,
    phase: String,
    version: String,
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    component: String,
    status: String,
    detail: String,
}

impl Report {
    /// `None` if the answer is not the health report of a tidings server.
    fn read(answer: &Answer) -> Option<Report> {
        serde_json::from_slice(&answer.body).ok()
    }

    fn print(&self, target: &Target, out: &mut dyn Write) -> io::Result<()> {
        let Report { status, phase, version, components } = self;
        let mut text = format!("{status}: {target} is {phase}, tidings {version}");
        for Component { component, status, detail } in components {
            text += &format!("\n  {component:<12} {status:<10} {detail}");
        }
        text.split('\n').try_for_each(|line| writeln!(out, "{}", printable(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Reply, TinyServer, output};

    async fn health(reply: Reply, json: bool) -> (Exit, String, String) {
        let server = TinyServer::start(vec![reply]).await;
        let args = HealthArgs { json, target: server.target_args() };
        output(async |out, err| run(&args, &Sources::default(), out, err).await).await
    }

    const DEGRADED: &str = r#"{"status":"degraded","phase":"draining","version":"9.9","components":[
        {"component":"redis","status":"degraded","detail":"unreachable for 12 s"},{"component":"connections","status":"degraded","detail":"2 of 2"}]}"#;

    #[tokio::test]
    async fn every_component_has_a_line() {
        let (exit, out, err) = health(Reply::json(200, DEGRADED), false).await;
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("degraded: http://127.0.0.1:"), "{out}");
        assert!(lines[0].ends_with(" is draining, tidings 9.9"), "{out}");
        assert_eq!(
            lines[1..],
            ["  redis        degraded   unreachable for 12 s", "  connections  degraded   2 of 2"]
        );
    }

    #[tokio::test]
    async fn anything_but_200_is_a_failure() {
        let (exit, out, _) = health(Reply::json(503, DEGRADED), true).await;
        assert_eq!((exit, out), (Exit::Runtime, format!("{DEGRADED}\n")));
        let (exit, out, err) = health(Reply::json(200, "welcome"), false).await;
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert_eq!(err, "tidings: the server answered 200 OK: welcome\n");
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_with_words() {
        let args = HealthArgs { json: false, target: crate::cli::fixture::nobody().await };
        let (exit, out, err) = output(async |out, err| run(&args, &Sources::default(), out, err).await).await;
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert!(
            err.contains("cannot reach http://127.0.0.1:") && err.contains("is the server running"),
            "{err}"
        );
    }
}
