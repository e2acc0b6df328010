//! Frames of WebSockets by the million, and those that claim to be larger than memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::siege::Siege;
use crate::support::{RawFrame, RawWebSocket};

const ATTACKERS: usize = 4;

/// Bytes that one attacker sends at most, and for how long.
const BYTES_MAX: usize = 12 << 20;
const TIME_MAX: Duration = Duration::from_secs(2);

/// Sends the burst until enough was sent, or the server has had enough of it. Answers are read: this is no slow reader.
async fn flood(address: SocketAddr, opening: Vec<u8>, burst: Vec<u8>) -> usize {
    let mut socket = RawWebSocket::connect(address).await;
    socket.send_bytes(&opening).await;
    let (begun, mut sent) = (Instant::now(), 0);
    let (mut reader, mut writer) = socket.stream.split();
    let read = async {
        let mut scratch = vec![0; 64 << 10];
        while reader.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
    };
    let write = async {
        while sent < BYTES_MAX && begun.elapsed() < TIME_MAX && writer.write_all(&burst).await.is_ok() {
            sent += burst.len();
        }
    };
    tokio::select! { () = read => (), () = write => (), () = tokio::time::sleep(TIME_MAX) => () }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_small_frames_hold_up_nobody() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    let frame = |first: u8, payload: &[u8]| RawFrame { first, payload: payload.to_vec() }.bytes();
    for (what, opening, one) in [
        ("empty fragments", frame(0x01, b""), frame(0x00, b"")),
        ("fragments of a byte", frame(0x01, b""), frame(0x00, b" ")),
        ("pings", Vec::new(), frame(0x89, b"")),
        ("pings with all they may carry", Vec::new(), frame(0x89, &[b'p'; 125])),
        ("pongs that nobody asked for", Vec::new(), frame(0x8a, b"")),
        ("empty messages", Vec::new(), frame(0x81, b"")),
        ("commands that are none", Vec::new(), frame(0x81, b"{\"a\":1}")),
        ("probes", Vec::new(), frame(0x81, b"{\"ping\":{\"c\":1}}")),
    ] {
        let burst = one.repeat(4_096);
        let attackers = (0..ATTACKERS).map(move |_| flood(address, opening.clone(), burst.clone()));
        let sent = siege.endure(what, 32 << 20, join_all(attackers)).await;
        assert!(sent.iter().sum::<usize>() > 0, "{what}: nobody sent anything");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frame_claims_to_be_takes_no_memory() {
    let mut siege = Siege::begin("").await;
    let address = siege.address;
    let claim = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    for (what, bytes, codes) in [
        ("frames of 1 GiB", claim(1 << 30), vec![1009]),
        ("frames of 2^63 bytes", claim(1 << 63), vec![1009]),
        ("frames of 2^64 - 1 bytes", claim(u64::MAX), vec![1009]),
        ("frames of a megabyte that do not come", claim(1_000_000), vec![]),
    ] {
        let is_refused = !codes.is_empty();
        let claim = move |_| {
            let bytes = bytes.clone();
            async move {
                let mut socket = RawWebSocket::connect(address).await;
                socket.send_bytes(&bytes).await;
                match is_refused {
                    true => socket.close_codes().await,
                    false => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Vec::new()
                    }
                }
            }
        };
        let ended = siege.endure(what, 8 << 20, join_all((0..200).map(claim))).await;
        assert!(ended.iter().all(|told| *told == codes), "{what}: {ended:?}");
    }
}
