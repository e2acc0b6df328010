//! Many publishers at once, each with a keep-alive connection on which one publish is under way.

use std::cell::Cell;
use std::rc::Rc;

use tokio::task::JoinSet;

use crate::error::LoadError;
use crate::http::{Target, escape};
use crate::lane::Lane;

/// What is published: number n goes to channel n modulo their count.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) target: Target,
    pub(super) channels: Vec<String>,
    pub(super) bytes: usize,
    /// What idempotency keys begin with.
    pub(super) keys: Option<String>,
}

impl Script {
    /// The request of publication `number`: a JSON text of so many bytes, quotes included.
    fn request(&self, number: u64) -> Vec<u8> {
        let channel = &self.channels[(number % self.channels.len() as u64) as usize];
        let mut headers = "content-type: application/json\r\n".to_owned();
        if let Some(keys) = &self.keys {
            headers += &format!("idempotency-key: {keys}-{number}\r\n");
        }
        let body = format!("\"{}\"", "a".repeat(self.bytes.saturating_sub(2)));
        self.target.request("POST", &format!("/v1/publish/{}", escape(channel)), &headers, body.as_bytes())
    }
}

/// The publishers.
#[derive(Debug)]
pub(super) struct Lanes {
    script: Rc<Script>,
    lanes: Vec<Lane>,
    /// Number of the next publication.
    next: Rc<Cell<u64>>,
}

impl Lanes {
    /// Connects so many.
    pub(super) async fn open(script: Script, count: u32) -> Result<Lanes, LoadError> {
        let mut lanes = Vec::new();
        for _ in 0..count {
            lanes.push(Lane::open(&script.target).await?);
        }
        Ok(Lanes { script: Rc::new(script), lanes, next: Rc::default() })
    }

    /// Publishes so many more, as fast as the server acknowledges them; an error if it does not acknowledge one. Needs a
    /// `LocalSet`.
    pub(super) async fn publish(&mut self, count: u64) -> Result<(), LoadError> {
        let end = self.next.get() + count;
        let mut tasks = JoinSet::new();
        for lane in self.lanes.drain(..) {
            tasks.spawn_local(run(lane, self.script.clone(), self.next.clone(), end));
        }
        while let Some(ended) = tasks.join_next().await {
            self.lanes.push(ended.expect("a publisher reports its errors, it does not panic")?);
        }
        Ok(())
    }
}

/// Publishes on one of them until the number `end` is reached, together with the others.
async fn run(mut lane: Lane, script: Rc<Script>, next: Rc<Cell<u64>>, end: u64) -> Result<Lane, LoadError> {
    while next.get() < end {
        let number = next.replace(next.get() + 1);
        lane.demand(&script.request(number), || format!("publication {number}")).await?;
    }
    Ok(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_go_to_the_channels_in_turn_and_have_keys_of_their_own() {
        let target = Target::parse("http://127.0.0.1:8080", None).unwrap();
        let script =
            Script { target, channels: vec!["a".into(), "b".into()], bytes: 4, keys: Some("k".into()) };
        let request = |number| String::from_utf8(script.request(number)).unwrap();
        assert!(request(2).starts_with("POST /v1/publish/a "), "{}", request(2));
        assert!(request(3).starts_with("POST /v1/publish/b "), "{}", request(3));
        assert!(request(3).contains("idempotency-key: k-3\r\n") && request(3).ends_with("\r\n\r\n\"aa\""));
        let without = Script { keys: None, ..script };
        assert!(!String::from_utf8(without.request(3)).unwrap().contains("idempotency-key"));
    }
}
