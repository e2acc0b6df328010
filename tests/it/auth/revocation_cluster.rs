//! Revocations reach all instances, those that start later, and those that were cut off while it happened.

use serde_json::{Value, json};

use crate::support::{
    API_KEY, Data, Fleet, Instance, Link, RedisServer, Request, Token, WebSocket, auth_config, eventually,
};

const SOON: &str = "[server]\ndrain_delay = \"0s\"\ndrain_spread = \"0s\"\n";

async fn fleet(count: usize, link: &Link) -> Fleet {
    let fleet = Fleet::start(count, link, &format!("{SOON}{}", auth_config()), "").await;
    eventually("the instances to know each other", async || {
        let view = Request::new(fleet.instances[0].address, "GET", "/v1/cluster").bearer(API_KEY);
        (view.send().await.json()["instances"].as_array().map(Vec::len) == Some(count)).then_some(())
    })
    .await;
    fleet
}

fn token(user: &str) -> String {
    Token::of(user).subscribe("room:*").publish("room:*").issued(10).sign()
}

async fn status(instance: &Instance, token: &str) -> u16 {
    Request::new(instance.address, "POST", "/v1/publish/room:1").body("1").bearer(token).send().await.status
}

async fn socket(instance: &Instance, user: &str) -> WebSocket {
    let bearer = format!("Bearer {}", token(user));
    let mut socket = WebSocket::connect(instance.address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    socket
}

async fn revoke(instance: &Instance, body: Value) -> Value {
    let request = Request::new(instance.address, "POST", "/v1/revoke").bearer(API_KEY);
    let answer = request.body(body.to_string()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_revocation_reaches_every_instance_and_those_that_start_later() {
    let redis = RedisServer::start("").await;
    let mut fleet = fleet(3, &Link::Direct(redis.url())).await;
    fleet.instances[2].kill9().await;
    let mut far = socket(&fleet.instances[1], "ada").await;
    let answer = revoke(&fleet.instances[0], json!({"user": "ada"})).await;
    assert_eq!((&answer["disconnected"], &answer["kept"]), (&json!(1), &json!(true)), "{answer}");
    assert_eq!(far.closed().await.1.code, 4501);
    for instance in &fleet.instances[..2] {
        assert_eq!(status(instance, &token("ada")).await, 401);
        assert_eq!(status(instance, &token("bob")).await, 200);
    }
    fleet.instances[2].start_again().await;
    assert_eq!(status(&fleet.instances[2], &token("ada")).await, 401, "from its first moment on");
    // All of them may be gone meanwhile.
    for instance in &mut fleet.instances {
        instance.kill9().await;
    }
    fleet.instances[0].start_again().await;
    assert_eq!(status(&fleet.instances[0], &token("ada")).await, 401);
}

#[tokio::test]
async fn an_instance_that_was_cut_off_learns_of_it_when_it_is_back() {
    let redis = RedisServer::start("").await;
    let fleet = fleet(2, &Link::Proxied(redis.address())).await;
    let (near, far) = (&fleet.instances[0], &fleet.instances[1]);
    let mut ada = socket(far, "ada").await;
    let proxy = far.proxy.as_ref().expect("it has one");
    proxy.refuse(true);
    proxy.cut_all();
    let answer = revoke(near, json!({"user": "ada"})).await;
    assert_eq!((&answer["complete"], &answer["kept"]), (&json!(false), &json!(true)), "{answer}");
    assert_eq!(answer["missing"].as_array().map(Vec::len), Some(1), "{answer}");
    proxy.refuse(false);
    assert_eq!(ada.closed().await.1.code, 4501);
    assert_eq!(status(far, &token("ada")).await, 401);
}

#[tokio::test]
async fn what_redis_has_lost_is_written_again_by_those_who_know_it() {
    let mut redis = RedisServer::start("").await;
    let mut fleet = fleet(2, &Link::Direct(redis.url())).await;
    assert_eq!(revoke(&fleet.instances[0], json!({"user": "ada"})).await["kept"], true);
    redis.restart(Data::Gone).await;
    // The revocation, and the stamp.
    eventually("the revocation to be kept again", async || {
        let kept = redis.try_command(&["HLEN", "tidings:{$revoked}:r"]).await.ok()?;
        (kept.integer() == 2).then_some(())
    })
    .await;
    redis.kill9();
    let answer = revoke(&fleet.instances[0], json!({"token_id": "t-1"})).await;
    assert_eq!((&answer["kept"], &answer["complete"]), (&json!(false), &json!(false)), "{answer}");
    assert!(redis.start_again().await);
    eventually("both revocations to be kept", async || {
        let kept = redis.try_command(&["HLEN", "tidings:{$revoked}:r"]).await.ok()?;
        (kept.integer() == 3).then_some(())
    })
    .await;
    fleet.instances[1].kill9().await;
    fleet.instances[1].start_again().await;
    assert_eq!(status(&fleet.instances[1], &token("ada")).await, 401);
}

#[tokio::test]
async fn what_redis_has_evicted_is_written_again_by_those_who_know_it() {
    let redis = RedisServer::start("").await;
    let mut fleet = fleet(2, &Link::Direct(redis.url())).await;
    assert_eq!(revoke(&fleet.instances[0], json!({"user": "ada"})).await["kept"], true);
    let of_revocations = redis.command(&["KEYS", "*revoked*"]).await;
    let names: Vec<String> = of_revocations.list().iter().map(|name| name.text().to_owned()).collect();
    assert_eq!(names.len(), 1, "nothing of it can be evicted without the rest: {names:?}");
    assert_eq!(redis.command(&["PTTL", &names[0]]).await.integer(), -1, "nor for having a time to live");
    assert_eq!(redis.command(&["DEL", &names[0]]).await.integer(), 1);
    eventually("the revocation to be kept again", async || {
        (redis.command(&["HLEN", &names[0]]).await.integer() == 2).then_some(())
    })
    .await;
    fleet.instances[1].kill9().await;
    fleet.instances[1].start_again().await;
    assert_eq!(status(&fleet.instances[1], &token("ada")).await, 401, "an instance that starts now");
}
