//! Where one publisher's publications go: to one of several servers, and to the next when that one fails.

use crate::http::{Connection, Response, Target};

/// A publication on its way, the same at every server.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) path: String,
    /// The idempotency key, which makes it safe to try again, elsewhere too.
    pub(crate) key: String,
    /// JSON.
    pub(crate) payload: String,
}

/// The servers, and the connection to the one in use.
#[derive(Debug)]
pub(crate) struct Outlet {
    targets: Vec<Target>,
    current: usize,
    connection: Option<Connection>,
}

impl Outlet {
    /// Begins at the first of `targets`, of which there is at least one.
    pub(crate) fn new(targets: Vec<Target>) -> Self {
        Outlet { targets, current: 0, connection: None }
    }

    /// Number of servers.
    pub(crate) fn count(&self) -> usize {
        self.targets.len()
    }

    /// One try at one server. Any failure costs the connection, so that no late answer is taken for another's, and the next
    /// try is made at the next server.
    pub(crate) fn attempt(&mut self, publish: &Publish) -> Result<Response, String> {
        let outcome = self.exchange(publish);
        if outcome.is_err() {
            self.connection = None;
            self.current = (self.current + 1) % self.targets.len();
        }
        outcome
    }

    fn exchange(&mut self, publish: &Publish) -> Result<Response, String> {
        let target = &self.targets[self.current];
        let connection = match &mut self.connection {
            Some(open) => open,
            none => none.insert(
                Connection::open(target).map_err(|error| format!("publisher could not connect: {error}"))?,
            ),
        };
        let headers = format!("content-type: application/json\r\nidempotency-key: {}\r\n", publish.key);
        let request = target.request("POST", &publish.path, &headers, publish.payload.as_bytes());
        let response =
            connection.exchange(&request).map_err(|error| format!("publish was not answered: {error}"))?;
        if response.status != 200 {
            let body = String::from_utf8_lossy(&response.body);
            return Err(format!("publish was answered by {}: {body}", response.status));
        }
        Ok(response)
    }
}
