//! Heads of requests that do not come, do not end, or are as large as can be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::siege::Siege;

/// What the server has for a head, here; five seconds by default.
const TIMEOUT: Duration = Duration::from_secs(1);

const MANY: usize = 200;

fn toml() -> String {
    format!("[server]\nheader_timeout = \"{TIMEOUT:?}\"")
}

/// Sends `pieces` again and again, at this pace, until the server has enough; returns how long that took and what it said.
async fn until_closed(address: SocketAddr, piece: Vec<u8>, pace: Duration) -> (Duration, String) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n").await.ok();
        while writer.write_all(&piece).await.is_ok() {
            tokio::time::sleep(pace).await;
        }
        // A reset tells the writer first; what was said before it may be lost.
        std::future::pending::<()>().await
    };
    let mut said = Vec::new();
    let read = reader.read_to_end(&mut said);
    let ended = async {
        tokio::select! { _ = read => (), () = write => () }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the server ends it");
    (begun.elapsed(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_end_are_given_up_in_time_and_cost_nobody_else() {
    let mut siege = Siege::begin(&toml()).await;
    let address = siege.address;
    for (what, piece, pace) in [
        ("a byte now and then", b"x".to_vec(), Duration::from_millis(100)),
        ("a field now and then", b"x: y\r\n".to_vec(), Duration::from_millis(100)),
        ("nothing", Vec::new(), Duration::from_secs(60)),
    ] {
        let attackers = (0..MANY).map(move |_| until_closed(address, piece.clone(), pace));
        let ended = siege.endure(what, 16 << 20, join_all(attackers)).await;
        let (longest, _) = ended.iter().max_by_key(|(took, _)| *took).expect("there are many");
        assert!(*longest < TIMEOUT * 8, "{what}: the last was given up after {longest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_sixteen_megabytes_and_ten_thousand_fields_are_not_kept() {
    let mut siege = Siege::begin(&toml()).await;
    let address = siege.address;
    let fields: Vec<u8> = (0..10_000).flat_map(|n| format!("x-{n}: y\r\n").into_bytes()).collect();
    for (what, piece) in [("one field of 16 MB", vec![b'x'; 16 << 20]), ("10,000 fields", fields)] {
        let attackers = (0..8).map(move |_| until_closed(address, piece.clone(), Duration::ZERO));
        let ended = siege.endure(what, 16 << 20, join_all(attackers)).await;
        for (_, said) in ended {
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{what}: {said}");
        }
    }
}
