//! The floor's own two processes, joined as `floor` joins them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// One of the helper commands, its pipes at hand; killed when dropped.
struct Helper(Child);

impl Helper {
    fn start(arguments: &str) -> Helper {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings-load"));
        command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped());
        Helper(command.spawn().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_sink_receives_exactly_what_the_raw_server_sends() {
    let mut server = Helper::start("raw-server --clients 10 --payload 64 --batch 3 --ticks 2 --warm-up 1");
    let port = server.line();
    let mut sink = Helper::start(&format!("raw-sink --clients 10 --port {port} --transport ws"));
    assert_eq!(sink.line(), "ready");
    server.tell("run");
    let cost: serde_json::Value = serde_json::from_str(&server.line()).unwrap();
    assert!(cost["us_per_delivery"].as_f64().unwrap() > 0.0, "{cost}");
    // 10 sockets, 3 ticks, 3 frames of a two-byte head and 64 bytes; the last may lie in a socket until the next sweep.
    let expected = 10 * 3 * 3 * 66;
    let seen = (0..50).map(|_| {
        sink.tell("bytes");
        sink.line().parse::<u64>().unwrap()
    });
    assert_eq!(seen.take_while(|bytes| *bytes <= expected).find(|bytes| *bytes == expected), Some(expected));
}

#[test]
fn a_sink_without_a_server_says_so_and_fails() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings-load"))
        .args(["raw-sink", "--clients", "1", "--port", "1", "--transport", "ws"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("connection 0"), "{output:?}");
}

#[test]
fn a_measurement_without_a_server_is_a_usage_error() {
    for measurement in ["floor", "cluster"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidings-load")).arg(measurement).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--server"), "{output:?}");
    }
}
