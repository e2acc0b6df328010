//! Subscribers that cost almost nothing: no event queue, no wake-ups, no copies. One sweep a period calls recv with
//! MSG_TRUNC on each socket, which throws the bytes away inside the kernel and tells how many they were.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};

use crate::cli::RawSinkArgs;
use crate::error::LoadError;
use crate::http::{Head, Target, escape};
use crate::link::Transport;
use crate::process;
use crate::websocket::{Opcode, client_frame, upgrade_headers};

/// No divisor of the window: who reads within 40 ms of a send spares the kernel its delayed acknowledgement, which is
/// charged to the sender (some 8 % of a send). With 50 ms the phase of sweeps and windows stays as it fell, and so does that
/// 8 %; with 47 ms every measurement passes through all phases.
const SWEEP_PERIOD: Duration = Duration::from_millis(47);
/// More than a socket buffer holds of one window.
const DISCARD_BYTES: usize = 4 * 1024 * 1024;
/// For a server to accept and subscribe one connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// A handshake with its 10 replies is below 4 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Opens all connections, says `ready`, then answers each line on stdin by the bytes discarded so far.
pub(crate) fn raw_sink(args: &RawSinkArgs) -> Result<(), LoadError> {
    process::raise_descriptor_limit(args.clients as usize)?;
    let target = Target::parse(&format!("http://127.0.0.1:{}", args.port), None)?;
    let sockets = (0..args.clients)
        .map(|number| open(&target, args).map_err(LoadError::io(format!("sink: connection {number}"))))
        .collect::<Result<Vec<_>, _>>()?;
    println!("ready");
    let questions = questions();
    let mut discarded = 0;
    let mut scratch = vec![0; DISCARD_BYTES];
    loop {
        let start = Instant::now();
        for socket in &sockets {
            discarded += discard(socket, &mut scratch).map_err(LoadError::io("sink: receive"))?;
        }
        match questions.try_recv() {
            Ok(()) => println!("{discarded}"),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        thread::sleep(SWEEP_PERIOD.saturating_sub(start.elapsed()));
    }
}

fn questions() -> Receiver<()> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|_| sender.send(())));
    receiver
}

/// A connection that has all its subscriptions.
fn open(target: &Target, args: &RawSinkArgs) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(target.address)?;
    socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    // A reset on close leaves no port waiting for the next round.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    let (request, awaited) = match args.transport {
        Transport::Ws => (target.request("GET", "/ws", &upgrade_headers(), b""), "\"subscribed\":"),
        Transport::Sse => {
            let query: Vec<String> =
                args.channel.iter().map(|name| format!("channel={}", escape(name))).collect();
            let path = format!("/sse?{}", query.join("&"));
            (target.request("GET", &path, "accept: text/event-stream\r\n", b""), "event: hello")
        }
    };
    socket.write_all(&request)?;
    let mut received = Vec::new();
    let head = loop {
        if let Some(head) = Head::parse(&received).map_err(io::Error::other)? {
            break head;
        }
        read_more(&mut socket, &mut received)?;
    };
    if !matches!(head.status, 101 | 200) {
        return Err(io::Error::other(format!("handshake answered by {}", head.status)));
    }
    let awaited_count = match args.transport {
        Transport::Ws => subscribe(&mut socket, &args.channel)?,
        Transport::Sse => 1,
    };
    while count(&received[head.length..], awaited.as_bytes()) < awaited_count {
        read_more(&mut socket, &mut received)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks for every channel and returns their number.
fn subscribe(socket: &mut TcpStream, channels: &[String]) -> io::Result<usize> {
    for (id, channel) in channels.iter().enumerate() {
        let command = serde_json::json!({ "id": id, "subscribe": { "channel": channel } }).to_string();
        socket.write_all(&client_frame(Opcode::Text, command.as_bytes(), MASK))?;
    }
    Ok(channels.len())
}

fn read_more(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let read = socket.read(&mut buffer)?;
    if read == 0 || received.len() > HANDSHAKE_BYTES_MAX {
        let seen = String::from_utf8_lossy(received).chars().take(400).collect::<String>();
        return Err(io::Error::other(format!("no subscription in the answer: {seen:?}")));
    }
    received.extend_from_slice(&buffer[..read]);
    Ok(())
}

fn count(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len()).filter(|window| *window == needle).count()
}

/// Throws away what the socket holds; returns how many bytes it was.
fn discard(socket: &TcpStream, scratch: &mut [u8]) -> io::Result<u64> {
    match recv(socket, scratch, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Err(io::Error::other("the server closed a connection")),
        Ok((_, length)) => Ok(length as u64),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}
