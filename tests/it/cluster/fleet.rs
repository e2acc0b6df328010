//! Three instances of the real binary on one Redis: they see each other, and an operator of one reaches all.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::token;
use crate::support::{API_KEY, Fleet, Link, RedisServer, Request, WebSocket, auth_config, eventually};

const SOON: &str = "[server]\ndrain_delay = \"0s\"\ndrain_spread = \"0s\"\n";

async fn start() -> (RedisServer, Fleet) {
    let redis = RedisServer::start("").await;
    let fleet = Fleet::start(3, &Link::Direct(redis.url()), &format!("{SOON}{}", auth_config()), "").await;
    sees(&fleet, 0, &[false; 3]).await;
    (redis, fleet)
}

async fn view(address: SocketAddr) -> Vec<Value> {
    let answer = Request::new(address, "GET", "/v1/cluster").bearer(API_KEY).send().await;
    answer.json()["instances"].as_array().expect("a list").clone()
}

/// Waits until an instance sees so many, as silent as this says, in any order.
async fn sees(fleet: &Fleet, viewer: usize, silent: &[bool]) {
    eventually(&format!("a view of {silent:?}"), async || {
        let view = view(fleet.instances[viewer].address).await;
        let mut seen: Vec<bool> = view.iter().map(|instance| instance["silent"] == true).collect();
        seen.sort_unstable();
        (seen == silent).then_some(())
    })
    .await;
}

async fn socket(fleet: &Fleet, instance: usize, user: &str) -> WebSocket {
    let bearer = format!("Bearer {}", token(user));
    let mut socket =
        WebSocket::connect(fleet.instances[instance].address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    socket
}

async fn disconnect(fleet: &Fleet, asked: usize, body: Value) -> Value {
    let request = Request::new(fleet.instances[asked].address, "POST", "/v1/disconnect");
    request.bearer(API_KEY).body(body.to_string()).send().await.json()
}

#[tokio::test]
async fn every_instance_sees_all_and_an_operator_of_one_reaches_them() {
    let (_redis, fleet) = start().await;
    for (viewer, instance) in fleet.instances.iter().enumerate() {
        sees(&fleet, viewer, &[false; 3]).await;
        let mut shown: Vec<String> =
            view(instance.address).await.iter().map(|i| i["address"].as_str().unwrap().to_owned()).collect();
        let mut expected: Vec<String> = fleet.addresses().iter().map(SocketAddr::to_string).collect();
        shown.sort();
        expected.sort();
        assert_eq!(shown, expected);
    }
    let mut adas =
        [socket(&fleet, 0, "ada").await, socket(&fleet, 1, "ada").await, socket(&fleet, 2, "ada").await];
    let mut bob = socket(&fleet, 2, "bob").await;
    eventually("the others to tell of their connections", async || {
        let all = view(fleet.instances[0].address).await;
        let connections = all.iter().filter_map(|instance| instance["connections"].as_u64());
        (connections.sum::<u64>() == 4).then_some(())
    })
    .await;
    let list = Request::new(fleet.instances[1].address, "GET", "/v1/connections?user=ada").bearer(API_KEY);
    let list = list.send().await.json();
    assert_eq!(
        (list["connections"].as_array().map(Vec::len), &list["complete"]),
        (Some(3), &json!(true)),
        "{list}"
    );
    let answer = disconnect(&fleet, 0, json!({"user": "ada"})).await;
    assert_eq!((&answer["disconnected"], &answer["complete"]), (&json!(3), &json!(true)), "{answer}");
    for ada in &mut adas {
        assert_eq!(ada.closed().await.1.code, 4503);
    }
    bob.subscribe("room:1").await;
}

#[tokio::test]
async fn a_dead_instance_is_silent_and_missing_and_one_that_leaves_is_neither() {
    let (_redis, mut fleet) = start().await;
    let addressed = view(fleet.instances[0].address).await;
    let dead = fleet.instances[2].address.to_string();
    let dead = addressed.iter().find(|instance| instance["address"] == dead.as_str()).expect("it is seen");
    let dead = dead["id"].clone();
    assert!(fleet.instances[1].terminate().await.success());
    sees(&fleet, 0, &[false; 2]).await;
    fleet.instances[2].kill9().await;
    let answer = disconnect(&fleet, 0, json!({"user": "ada"})).await;
    assert_eq!((&answer["complete"], &answer["missing"]), (&json!(false), &json!([dead])), "{answer}");
    sees(&fleet, 0, &[false, true]).await;
    let answer = disconnect(&fleet, 0, json!({"user": "ada"})).await;
    assert_eq!((&answer["complete"], &answer["missing"]), (&json!(false), &json!([dead])), "{answer}");
}

#[tokio::test]
async fn an_instance_without_redis_does_its_own_part_and_says_so() {
    let (mut redis, fleet) = start().await;
    let mut ada = socket(&fleet, 0, "ada").await;
    let mut far = socket(&fleet, 1, "ada").await;
    redis.kill9();
    let answer = disconnect(&fleet, 0, json!({"user": "ada"})).await;
    assert_eq!((&answer["disconnected"], &answer["complete"]), (&json!(1), &json!(false)), "{answer}");
    assert_eq!(answer["missing"].as_array().map(Vec::len), Some(2), "{answer}");
    let (_, closed) = ada.closed().await;
    assert_eq!(closed.code, 4503);
    far.send(json!({"ping": {"c": 1}})).await;
    while far.next_frame().await.get("pong").is_none() {}
}
