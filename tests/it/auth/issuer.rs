//! An issuer of tokens: a key, and a server that publishes its public half.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::Token;

const ED25519: &[u8] = include_bytes!("../../../src/config/tests/keys/ed25519.pem");

/// Answers every request with what is set, and counts them.
pub(super) struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// One that publishes its key under these names.
    pub(super) async fn start(kids: &[&str]) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (said, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                if read > 0 {
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = said.lock().expect("nobody panics here").clone();
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        let issuer = Issuer { address, answer, asked };
        issuer.publish(kids);
        issuer
    }

    /// Where its keys are.
    pub(super) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Publishes its key under these names.
    pub(super) fn publish(&self, kids: &[&str]) {
        let keys: Vec<Value> = kids.iter().map(|kid| public(kid)).collect();
        self.answer("200 OK", &json!({ "keys": keys }).to_string());
    }

    /// Answers with this from now on.
    pub(super) fn answer(&self, status: &str, body: &str) {
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        *self.answer.lock().expect("nobody panics here") = head + body;
    }

    /// Redirects to another address from now on.
    pub(super) fn redirect(&self, to: &str) {
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        *self.answer.lock().expect("nobody panics here") = answer;
    }
}

/// The public half under this name. The last 32 bytes of the key's form are it.
fn public(kid: &str) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let pem = include_str!("../../../src/config/tests/keys/ed25519.pub.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(text).expect("PEM holds base64");
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]) })
}

/// A token that names this key, with further fields of its header.
pub(super) fn token(kid: &str, jku: Option<&str>) -> String {
    let header =
        Header { kid: Some(kid.to_owned()), jku: jku.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    let claims = Token::of("ada").subscribe("room:*").publish("room:*");
    let key = EncodingKey::from_ed_pem(ED25519).expect("is a key");
    jsonwebtoken::encode(&header, claims.claims(), &key).expect("can be signed")
}
