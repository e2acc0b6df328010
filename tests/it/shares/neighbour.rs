//! An honest caller, which does a little of everything and may be refused nothing.

use serde_json::{Value, json};

use crate::support::{API_KEY, TestServer, Token, WebSocket};

/// A backend with a key, and ada, who is connected all the time.
pub(super) struct Neighbour {
    ada: String,
    socket: WebSocket,
    /// Where it stood on the first day.
    first: Value,
    days: usize,
}

impl Neighbour {
    pub(super) async fn move_in(server: &TestServer) -> Neighbour {
        let ada = Token::of("ada").tenant("honest").subscribe("n:*").publish("n:*").watch("*").sign();
        let mut socket = Neighbour::connect(server, &ada).await;
        socket.subscribe("n:1").await;
        let quiet = server.post("/v1/publish/n:quiet", "0").bearer(API_KEY).send().await;
        Neighbour { ada, socket, first: quiet.json()["position"].clone(), days: 0 }
    }

    async fn connect(server: &TestServer, token: &str) -> WebSocket {
        let bearer = format!("Bearer {token}");
        let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer)]).await;
        socket.expect("hello").await;
        socket
    }

    /// Publishes, is told, retries, makes a channel, waits for one that is not there yet, comes back, mutates and asks.
    pub(super) async fn lives_a_day(&mut self, server: &TestServer) {
        self.days += 1;
        let day = self.days;
        let publish = async |path: String| {
            let answer = server.post(&path, day.to_string()).bearer(API_KEY).send().await;
            assert_eq!(answer.status, 200, "{path} on day {day}: {answer:?}");
            answer.json()["position"].clone()
        };
        let position = publish(format!("/v1/publish/n:1?idempotency_key=day{day}")).await;
        assert_eq!(position["offset"], day, "nothing of the channel is lost");
        assert_eq!(publish(format!("/v1/publish/n:1?idempotency_key=day{day}")).await, position);
        assert_eq!(self.socket.data("n:1", 1).await, [json!(day)]);
        let mut another = Neighbour::connect(server, &self.ada).await;
        another.subscribe(&format!("n:new{day}")).await;
        publish(format!("/v1/publish/n:new{day}")).await;
        assert_eq!(another.data(&format!("n:new{day}"), 1).await, [json!(day)]);
        let resumed = another.resume("n:quiet", &self.first).await;
        assert_eq!(resumed["recovered"], true, "day {day}: {resumed}");
        let history = server.get("/v1/channels/n:1/history").bearer(&self.ada).send().await;
        assert_eq!(history.json()["publications"].as_array().map(Vec::len), Some(day), "{history:?}");
        let mutated = server.post("/v1/invalidate/n:1?ns=shop", "").bearer(API_KEY).send().await;
        assert_eq!(mutated.status, 200, "{mutated:?}");
        let items = json!({"ns": "shop", "items": [{"since": mutated.json()["position"], "tags": ["n:1"]}]});
        let checked = server.post("/v1/check", items.to_string()).bearer(&self.ada).send().await;
        assert_eq!(checked.json()["stale"], json!([]), "{checked:?}");
    }
}
