//! What is counted, to whom, and when: an attacker at each bound beside an honest neighbour, who notices nothing.

mod answers;
mod bodies;
mod credentials;
mod frames;

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Request, TestServer, Token, auth_config};

/// A server that demands credentials, with more configuration.
async fn server(toml: &str) -> TestServer {
    TestServer::serve(&format!("{}{toml}", auth_config())).await
}

/// A token that may publish, subscribe and ask everywhere.
fn token(user: &str) -> String {
    Token::of(user).subscribe("*").publish("*").watch("*").mutate("*").sign()
}

/// A socket on which these bytes were sent, and which stays open.
async fn opened(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(bytes).await.expect("the server reads");
    stream
}

/// The head of a request that announces a body of so many bytes.
fn head(address: SocketAddr, path: &str, token: Option<&str>, length: usize) -> Vec<u8> {
    let request = Request::new(address, "POST", path);
    let request = match token {
        Some(token) => request.bearer(token),
        None => request,
    };
    request.header("content-length", &length.to_string()).bytes()
}
