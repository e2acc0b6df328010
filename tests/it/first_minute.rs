//! What a newcomer sees: the real binary, started as the README says.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{EventStream, Process, Request, auth_config};

#[tokio::test]
async fn without_arguments_it_starts_in_dev_mode_and_says_what_to_try() {
    let process = Process::start(&["--listen", "127.0.0.1:0"], "");
    let address = process.address().await;
    crate::support::eventually("the banner", async || process.stderr().contains("Try it").then_some(()))
        .await;
    let banner = process.stderr();
    for part in ["dev mode", "NOT for production", "/ws", "/sse?channel=tickets", "/metrics", "/health"] {
        assert!(banner.contains(part), "{part} in\n{banner}");
    }
    assert!(!banner.contains('\u{1b}'), "no colour where nobody looks");
    // As the banner's curl sends it.
    let mut stream = EventStream::open(Request::new(address, "GET", "/sse?channel=tickets")).await;
    stream.expect("hello").await;
    let curl = Request::new(address, "POST", "/v1/publish/tickets").body("{\"id\":42}");
    let answer = curl.header("content-type", "application/x-www-form-urlencoded").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stream.expect("message").await["data"], json!({"id": 42}));
    for (path, kind, part) in [
        ("/", "text/html", "<title"),
        ("/tidings.js", "text/javascript", "export"),
        ("/livez", "text/plain", "ok"),
        ("/readyz", "text/plain", "ok"),
        ("/health", "application/json", "\"status\":\"ok\""),
        ("/metrics", "application/openmetrics-text", "tidings_connections"),
    ] {
        let answer = Request::new(address, "GET", path).send().await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").unwrap_or_default().starts_with(kind), "{path}: {answer:?}");
        assert!(answer.text().contains(part), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let nothing = Request::new(address, "GET", "/nothing").send().await;
    assert_eq!(nothing.code(), "not_found");
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.0.code(), Some(0));
}

/// Starts the binary, which must refuse; returns what it said.
async fn refuses(arguments: &[&str], toml: &str, code: i32) -> String {
    let (status, said) = Process::start(arguments, toml).ended().await;
    assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[tokio::test]
async fn serve_without_credentials_refuses_to_start() {
    let said = refuses(&["serve", "--listen", "127.0.0.1:0"], "", 78).await;
    assert!(said.contains("no credential is configured") && said.contains("tidings dev"), "{said}");
}

#[tokio::test]
async fn serve_with_credentials_starts_and_prints_no_secret() {
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0"], &auth_config());
    let address = process.address().await;
    assert_eq!(Request::new(address, "GET", "/readyz").send().await.status, 200);
    let wrong = Request::new(address, "POST", "/v1/publish/c").bearer("td_wrong-canary").body("1");
    assert_eq!(wrong.send().await.code(), "unauthorized");
    process.signal(Signal::TERM);
    process.signal(Signal::INT);
    let (_, said) = process.ended().await;
    assert!(!said.contains("canary"), "{said}");
    assert!(!said.contains("dev mode"), "{said}");
}

#[tokio::test]
async fn dev_mode_is_for_loopback_only() {
    let said = refuses(&["dev", "--listen", "0.0.0.0:0"], "", 2).await;
    assert!(said.contains("tidings serve") && said.contains("127.0.0.1"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_said_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refuses(&["dev", "--listen", &address], "", 1).await;
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[tokio::test]
async fn a_mistake_in_the_file_is_shown_where_it_is() {
    let said = refuses(&["dev"], "[server]\nlisten = \"127.0.0.1:0\"\nping_intervall = \"1s\"\n", 78).await;
    assert!(said.contains("ping_interval") && said.contains(":3"), "{said}");
    refuses(&["serve", "--no-such-flag"], "", 2).await;
    refuses(&["no-such-command"], "", 2).await;
}
