//! The examples that run by themselves, started as a reader of the README starts them.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::within;

fn cluster(arguments: &[&str]) -> Command {
    // Whoever runs the tests in the background may have made them deaf to SIGINT, and a shell cannot undo that.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/run"));
    command.args(arguments).env("TIDINGS_BIN", env!("CARGO_BIN_EXE_tidings"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The words of the line that begins so.
fn row<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("a line {name:?} in\n{said}")).split_whitespace().collect()
}

#[tokio::test]
async fn a_cluster_loses_nothing_with_one_of_its_instances() {
    let run = cluster(&["--seconds", "3", "--clients", "20"]).output();
    let output = run.await.expect("the example runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(row(&said, "acknowledged"), ["150", "150"], "{said}");
    assert_eq!(row(&said, "delivered"), ["3000", "of", "3000", "3000", "of", "3000"], "{said}");
    for nothing in ["lost", "gaps", "duplicates"] {
        assert_eq!(row(&said, nothing), ["0", "0"], "{said}");
    }
    // The publisher of the WebSockets was at the instance that was killed, and so was a third of all subscribers.
    assert_ne!(row(&said, "published again")[0], "0", "{said}");
    assert!(row(&said, "moved and resumed").iter().all(|word| *word != "0"), "{said}");
    assert!(row(&said, "instance 2 noticed").join(" ").contains("fell silent"), "{said}");
}

#[tokio::test]
async fn a_cluster_that_is_interrupted_ends_all_that_it_started() {
    let mut child = cluster(&["--seconds", "60", "--clients", "5"]).spawn().expect("the example starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
    let mut addresses: Vec<String> = Vec::new();
    while addresses.len() < 4 {
        let line = within("a line", lines.next_line()).await.expect("is text").expect("it goes on");
        let address = line.split_whitespace().find(|word| word.contains("127.0.0.1:"));
        addresses.push(address.expect("an address").trim_start_matches("http://").to_owned());
    }
    for address in &addresses {
        assert!(TcpStream::connect(address).await.is_ok(), "{address} answers");
    }
    let pid = Pid::from_raw(child.id().expect("it runs") as i32).expect("no process has number 0");
    kill_process(pid, Signal::INT).expect("it can be signalled");
    assert_eq!(within("its end", child.wait()).await.expect("is waited for").code(), Some(130));
    for address in &addresses {
        assert!(TcpStream::connect(address).await.is_err(), "{address} is gone");
    }
}

#[tokio::test]
async fn a_cluster_without_a_middle_is_refused() {
    for (arguments, code, reason) in [
        (["--seconds", "1"], 1, "no middle"),
        (["--seconds", "many"], 2, "usage"),
        (["--years", "2"], 2, "usage"),
    ] {
        let output = cluster(&arguments).output().await.expect("the example runs");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
}
