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

/// The whole measurement of a cluster, in little.
async fn cluster(arguments: &[&str]) -> std::process::Output {
    let little = ["--rounds", "2", "--publishers", "8", "--publications", "300", "--warm-up", "40"];
    let latency = ["--clients", "30", "--rate", "20", "--seconds", "1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(["bench", "cluster", "--json"]).args(little).args(latency).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("the generator runs")
}

#[tokio::test]
async fn a_cluster_is_measured_in_every_part() {
    let output = cluster(&[]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("a report, not {output:?}"));
    assert!(output.status.success(), "{report:#}");
    let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let kinds: Vec<_> =
        rows("costs").iter().map(|row| (row["bytes"].clone(), row["has_key"].clone())).collect();
    assert_eq!(
        kinds,
        [(64, false), (64, true), (1024, false), (1024, true)].map(|(b, k)| (b.into(), k.into()))
    );
    for row in rows("costs") {
        for cost in ["publishing_us", "receiving_us", "redis_us", "per_second", "per_cpu_second"] {
            assert!(row[cost]["min"].as_f64() > Some(0.0), "{cost} in {row:#}");
        }
    }
    let budgets: Vec<_> = rows("latencies").iter().map(|row| row["budget"]["p99_ms"].clone()).collect();
    assert_eq!(budgets, [Value::Null, Value::Null, 20.0.into()]);
    assert!(rows("latencies").iter().all(|row| row["p50_ms"]["min"].as_f64() > Some(0.0)), "{report:#}");
}

#[tokio::test]
async fn clients_that_watch_are_told_everything_on_every_way_that_is_measured() {
    let little = ["--rounds", "1", "--clients", "30", "--tags", "300", "--tags-per-client", "20"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(["bench", "watch", "--json", "--redis", "--quiet", "3", "--rate", "200", "--seconds", "1"]);
    command.args(little).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("the generator runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("a report, not {output:?}"));
    assert!(output.status.success(), "{report:#}");
    let rows = report["rows"].as_array().expect("rows");
    let places: Vec<_> = rows.iter().map(|row| row["clients_on"].clone()).collect();
    assert_eq!(places, ["one instance", "one instance", "the other instance", "the other instance"]);
    for row in rows {
        assert!(row["delivered"].as_u64() > Some(0) && row["lost"] == 0, "{row:#}");
        for figure in ["p50_ms", "p99_ms", "per_second", "mutation_us", "delivery_us"] {
            assert!(row[figure]["min"].as_f64() > Some(0.0), "{figure} in {row:#}");
        }
    }
}

#[tokio::test]
async fn a_cluster_without_its_redis_is_not_measured() {
    let output = cluster(&["--redis", "redis://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("redis://127.0.0.1:1"), "{output:?}");
}
