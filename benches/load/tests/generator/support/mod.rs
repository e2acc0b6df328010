//! A tiny server that speaks enough of the protocol to be loaded, and that misbehaves on purpose.
//! It batches nothing: each publication goes out at once, to one subscriber after the other.

mod connection;
mod hub;
mod log;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

pub(crate) use hub::Fault;
use hub::Hub;
use log::Log;

/// Starts a server with one fault; it serves until the test's process ends. Returns its URL.
pub(crate) fn server_with(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("bound above"));
    let (hub, log) = (Arc::new(Hub::new(fault)), Arc::new(Log::new(fault)));
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (hub, log) = (hub.clone(), log.clone());
            // A connection that breaks is the generator's doing: it cuts some on purpose.
            thread::spawn(move || drop(connection::serve(socket, &hub, &log)));
        }
    });
    url
}
