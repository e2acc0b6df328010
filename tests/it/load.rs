//! The load generator against the real binary, in a process of its own: what it counts must add up, cuts and all.
//!
//! The full size stands behind `tidings bench fanout --clients 5000 --rate 100 --seconds 30 --cut-percent 10`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::support::Process;

/// Some hundred clients, of whom one in five is cut while fifty publications a second come.
async fn check(transport: &str) {
    let server = Process::start(&["dev", "--listen", "127.0.0.1:0"], "");
    let url = format!("http://{}", server.address().await);
    let arguments = ["bench", "fanout", "--json", "--url", &url, "--transport", transport];
    let sizes = ["--clients", "300", "--rate", "50", "--seconds", "3", "--cut-percent", "20", "--seed", "7"];
    let command = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(arguments)
        .args(sizes)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = command.await.expect("the generator runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("a report, not {output:?}"));
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["delivered"], report["expected"], "{report:#}");
    assert_eq!(report["delivered"], 300 * 150, "{report:#}");
    for nothing in ["lost", "gaps", "duplicates"] {
        assert_eq!(report[nothing], 0, "{nothing} in {report:#}");
    }
    assert!(report["reconnects"].as_u64() >= Some(60), "the cuts happened: {report:#}");
}

#[tokio::test]
async fn hundreds_of_websockets_lose_nothing_though_every_fifth_is_cut() {
    check("ws").await;
}

#[tokio::test]
async fn hundreds_of_streams_lose_nothing_though_every_fifth_is_cut() {
    check("sse").await;
}
