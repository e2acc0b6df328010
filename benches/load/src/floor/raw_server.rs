//! The floor: what it costs the kernel to hand one message to N sockets. One thread, no event queue, no runtime: accept
//! all, then one send of ready-made bytes per socket and tick.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use serde::{Deserialize, Serialize};

use super::WINDOW;
use crate::cli::RawServerArgs;
use crate::error::LoadError;
use crate::process;
use crate::websocket::{ACCEPT, Opcode, server_frame};

/// What the ticks cost.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct RawCost {
    /// CPU microseconds per delivered message.
    pub(super) us_per_delivery: f64,
    /// Sends that found a full socket buffer; the sink was too slow if these are many.
    pub(super) full: u64,
}

/// Announces its port, accepts, and measures when told so on stdin.
pub(crate) fn raw_server(args: &RawServerArgs) -> Result<(), LoadError> {
    let failed = |what: &str| LoadError::io(format!("raw server: {what}"));
    process::raise_descriptor_limit(args.clients as usize)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("listen"))?;
    println!("{}", listener.local_addr().map_err(failed("listen"))?.port());
    let sockets = (0..args.clients).map(|_| accept(&listener)).collect::<io::Result<Vec<_>>>();
    let sockets = sockets.map_err(failed("accept"))?;
    let message: Vec<u8> = (b'a'..=b'z').cycle().take(args.payload as usize).collect();
    let frames = server_frame(Opcode::Binary, &message).repeat(args.batch as usize);
    let mut start = String::new();
    io::stdin().read_line(&mut start).map_err(failed("read"))?;
    let (cpu, full) = ticks(&sockets, &frames, args).map_err(failed("send"))?;
    let deliveries = f64::from(args.ticks) * f64::from(args.batch) * f64::from(args.clients);
    let cost = RawCost { us_per_delivery: cpu.as_secs_f64() * 1e6 / deliveries, full };
    println!("{}", serde_json::to_string(&cost).expect("finite numbers"));
    // Until the other side has read what it wants to read.
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ()).map_err(failed("read"))
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut socket, _) = listener.accept()?;
    let (mut request, mut length) = ([0; 2048], 0);
    while !request[..length].ends_with(b"\r\n\r\n") {
        let read = socket.read(&mut request[length..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
    }
    // One segment, for each one counts among the 16 that the kernel acknowledges at once (see `FloorArgs::warm_up`).
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes())?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// CPU time of the measured ticks, and how many of their sends met a full buffer.
fn ticks(sockets: &[TcpStream], frames: &[u8], args: &RawServerArgs) -> io::Result<(Duration, u64)> {
    let (mut full, mut cpu_before) = (0, Duration::ZERO);
    for number in 0..args.warm_up + args.ticks {
        if number == args.warm_up {
            (full, cpu_before) = (0, process::own_cpu_time());
        }
        let start = Instant::now();
        full += tick(sockets, frames)?;
        std::thread::sleep(WINDOW.saturating_sub(start.elapsed()));
    }
    Ok((process::own_cpu_time() - cpu_before, full))
}

/// Sends `frames` to everybody; who cannot take all at once is served after the others.
fn tick(sockets: &[TcpStream], frames: &[u8]) -> io::Result<u64> {
    let mut late = Vec::new();
    for socket in sockets {
        let sent = send_some(socket, frames)?;
        if sent < frames.len() {
            late.push((socket, sent));
        }
    }
    for (socket, sent) in &mut late {
        while *sent < frames.len() {
            poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
            *sent += send_some(socket, &frames[*sent..])?;
        }
    }
    Ok(late.len() as u64)
}

/// How many of `bytes` the socket took.
fn send_some(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}
