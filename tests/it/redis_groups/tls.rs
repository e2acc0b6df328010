//! Redis over TLS: with an authority of one's own, and with certificates for instances.

use std::path::PathBuf;

use crate::support::{Process, RedisServer, eventually, free_port};

fn pem(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/redis/tls");
    folder.join(name).display().to_string()
}

/// A server that speaks TLS on the port that is returned.
async fn server(asks_for_certificates: &str) -> (RedisServer, u16) {
    let port = free_port();
    let lines = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients {asks_for_certificates}\n",
        pem("server.pem"),
        pem("server.key.pem"),
        pem("ca.pem"),
    );
    (RedisServer::start(&lines).await, port)
}

fn start(port: u16, keys: &str) -> Process {
    let toml = format!("[redis]\nurl = \"rediss://localhost:{port}\"\n{keys}\n");
    Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml)
}

async fn is_accepted(port: u16, keys: &str) {
    let process = start(port, keys);
    eventually("readiness", async || process.stderr().contains("ready").then_some(())).await;
}

async fn is_refused(port: u16, keys: &str) {
    let (status, said) = start(port, keys).ended().await;
    assert!(!status.success() && said.contains("cannot be used"), "{said}");
}

#[tokio::test]
async fn a_server_is_trusted_that_an_authority_of_ones_own_signed() {
    let (_server, port) = server("no").await;
    is_refused(port, "").await;
    is_accepted(port, &format!("ca_file = \"{}\"", pem("ca.pem"))).await;
    is_refused(port, &format!("ca_file = \"{}\"", pem("client.pem"))).await;
}

#[tokio::test]
async fn an_instance_shows_its_certificate_to_servers_that_ask_for_one() {
    let (_server, port) = server("yes").await;
    let ca = format!("ca_file = \"{}\"", pem("ca.pem"));
    is_refused(port, &ca).await;
    let [certificate, key] = ["client.pem", "client.key.pem"].map(pem);
    is_accepted(port, &format!("{ca}\nclient_cert_file = \"{certificate}\"\nclient_key_file = \"{key}\""))
        .await;
}

#[tokio::test]
async fn certificates_are_refused_where_nothing_would_be_encrypted() {
    let server = RedisServer::start("").await;
    let toml = format!("[redis]\nurl = \"{}\"\nca_file = \"{}\"\n", server.url(), pem("ca.pem"));
    let (status, said) = Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml).ended().await;
    assert!(!status.success() && said.contains("nothing would be encrypted"), "{said}");
}
