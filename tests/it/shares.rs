//! Every resource that all callers of an instance share: one that takes all it gets, beside one that lives an ordinary day.
//!
//! A row takes everything of one limit that it is given. Each row is checked alike: the neighbour is refused nothing, loses
//! nothing and stays connected while it is taken; and once the taker is gone, there is room for it again. A further resource
//! needs a line in the README's table, its gauges, and a row here.

mod neighbour;

use serde_json::json;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{API_KEY, Answer, RedisServer, TestServer, Token, auth_config, eventually};
use neighbour::Neighbour;

/// The limits that have a row.
const ROWS: [&str; 6] = [
    "bodies_bytes",
    "channels_max",
    "history_total_bytes",
    "idempotency_bytes",
    "logs_max",
    "stored_bytes_max",
];

/// The limits that are looked at in the same manner elsewhere: readers that do not read need sockets of their own.
const ELSEWHERE: [(&str, &str, &str); 1] = [(
    "answers_bytes",
    include_str!("budgets/answers.rs"),
    "fn whoever_holds_half_of_all_answers_is_refused_more_and_its_neighbour_is_not()",
)];

/// Rates are not what is looked at.
const CONFIG: &str =
    "[limits]\nuser_commands_per_second = 0\nuser_publishes_per_second = 0\nuser_mutations_per_second = 0\n";

/// A server, and eve, who may do much of what is her own.
struct Scene {
    server: TestServer,
    eve: String,
}

impl Scene {
    async fn start(limits: &str) -> Scene {
        let server = TestServer::serve(&format!("{}{CONFIG}{limits}\n", auth_config())).await;
        let eve =
            Token::of("eve").tenant("evil").subscribe("*").publish("e:*").mutate("eve:*").watch("eve:*");
        Scene { server, eve: eve.sign() }
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.server.post(path, body).bearer(&self.eve).send().await
    }

    async fn used(&self, limit: &str) -> f64 {
        self.server.metric("tidings_limit_used", &format!("limit=\"{limit}\"")).await
    }

    /// Posts until it is refused with `limit_reached`; how often it was not.
    async fn until_refused(&self, path: impl Fn(usize) -> String, body: &str) -> usize {
        for accepted in 0..1_000 {
            let answer = self.post(&path(accepted), body).await;
            if answer.status != 200 {
                assert_eq!(answer.code(), "limit_reached", "{answer:?}");
                return accepted;
            }
        }
        panic!("a thousand were accepted");
    }
}

/// Has `take` take all that it gets, looks at what the neighbour notices, and waits until `has_room` when what `take` returned
/// is gone.
async fn check<Held>(
    limit: &'static str,
    bound: &str,
    take: impl AsyncFn(&Scene) -> Held,
    has_room: impl AsyncFn(&Scene) -> bool,
) {
    check_on(&format!("{limit} = {bound}\n[namespace.e]\nhistory_age = \"1s\""), limit, take, has_room).await;
}

/// The same on a server with more configuration; `limits` begins in the section `[limits]`.
async fn check_on<Held>(
    limits: &str,
    limit: &'static str,
    take: impl AsyncFn(&Scene) -> Held,
    has_room: impl AsyncFn(&Scene) -> bool,
) {
    assert!(ROWS.contains(&limit), "{limit} is a row");
    let scene = Scene::start(limits).await;
    let mut neighbour = Neighbour::move_in(&scene.server).await;
    neighbour.lives_a_day(&scene.server).await;
    let held = take(&scene).await;
    for _ in 0..2 {
        neighbour.lives_a_day(&scene.server).await;
    }
    drop(held);
    eventually("room", async || has_room(&scene).await.then_some(())).await;
    neighbour.lives_a_day(&scene.server).await;
}

#[tokio::test]
async fn channels() {
    let publish = async |scene: &Scene| {
        let accepted = scene.until_refused(|n| format!("/v1/publish/e:{n}"), "1").await;
        assert!((10..=20).contains(&accepted), "{accepted} of 40");
        for n in 0..100 {
            // Whoever only reads makes none, and takes nobody's numbering.
            let path = format!("/v1/channels/junk:{n}/history?limit=0");
            assert_eq!(scene.server.get(&path).bearer(&scene.eve).send().await.status, 200);
        }
    };
    check("channels_max", "40", publish, async |scene| {
        scene.post("/v1/publish/e:again", "1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn history() {
    let data = json!("x".repeat(10_000)).to_string();
    let fill = async |scene: &Scene| {
        for n in 0..60 {
            assert_eq!(scene.post(&format!("/v1/publish/e:{}", n % 7), &data).await.status, 200);
        }
        assert!(scene.used("history_total_bytes").await > 100_000.0, "it is full, or nearly so");
    };
    let is_empty = async |scene: &Scene| scene.used("history_total_bytes").await < 50_000.0;
    check("history_total_bytes", "200_000", fill, is_empty).await;
}

#[tokio::test]
async fn idempotency_keys() {
    let path = |n| format!("/v1/publish/e:1?idempotency_key=k{n}");
    let publish = async |scene: &Scene| {
        let accepted = scene.until_refused(path, "1").await;
        assert!((5..=17).contains(&accepted), "{accepted} of 33");
        assert_eq!(scene.post("/v1/publish/e:1", "1").await.status, 200, "without a key there is room");
        assert_eq!(scene.post(&path(0), "1").await.status, 200, "a retry is none");
    };
    let has_room = async |scene: &Scene| scene.post(&path(999), "1").await.status == 200;
    check("idempotency_bytes", "10_000\nidempotency_window = \"3s\"", publish, has_room).await;
}

#[tokio::test]
async fn mutation_logs() {
    let write = async |scene: &Scene| {
        for n in 0..20 {
            let answer =
                scene.server.get(&format!("/v1/position?ns=junk{n}")).bearer(&scene.eve).send().await;
            assert_eq!(answer.status, 200, "who may mutate something may ask");
            let check = json!({"ns": format!("junk{n}"), "items": []}).to_string();
            assert_eq!(scene.post("/v1/check", &check).await.status, 200);
        }
        assert_eq!(scene.used("logs_max").await, 1.0, "the neighbour's: whoever asks makes none");
        let accepted = scene.until_refused(|n| format!("/v1/invalidate/eve:1?ns=eve{n}"), "").await;
        assert_eq!(accepted, 4, "of 7 that were free");
    };
    // A log is for ever; who has its share goes on with those that it has.
    let goes_on = async |scene: &Scene| scene.post("/v1/invalidate/eve:1?ns=eve0", "").await.status == 200;
    check("logs_max", "8", write, goes_on).await;
}

#[tokio::test]
async fn request_bodies() {
    let take = async |scene: &Scene| {
        let mut bodies = Vec::new();
        for _ in 0..40 {
            let head = format!(
                "POST /v1/batch HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 900000\r\n\r\n",
                scene.server.address, scene.eve
            );
            let mut stream = TcpStream::connect(scene.server.address).await.expect("it listens");
            stream.write_all(head.as_bytes()).await.expect("it reads");
            // Once she has her share the server reads no more of her.
            stream.write_all(&vec![b' '; 800_000]).await.ok();
            bodies.push(stream);
        }
        eventually("her share", async || (scene.used("bodies_bytes").await > 7_000_000.0).then_some(()))
            .await;
        bodies
    };
    let is_given_back = async |scene: &Scene| scene.used("bodies_bytes").await == 0.0;
    check("bodies_bytes", "\"16MiB\"", take, is_given_back).await;
}

#[tokio::test]
async fn bytes_in_redis() {
    let redis = RedisServer::start("").await;
    let take = async |scene: &Scene| {
        let accepted = scene.until_refused(|n| format!("/v1/publish/e:{n}"), "1").await;
        assert!((5..=11).contains(&accepted), "{accepted} channels of 4.7 kB in half of 100 kB");
        let another = scene.server.post("/v1/publish/e:of-another", "1").bearer(API_KEY).send().await;
        assert_eq!(another.status, 200, "another caller has room in the same namespace");
    };
    let has_room = async |scene: &Scene| scene.post("/v1/publish/e:again", "1").await.status == 200;
    let config = format!(
        "[redis]\nurl = \"{}\"\n[namespace.e]\nhistory_age = \"1s\"\nstored_bytes_max = 100_000",
        redis.url()
    );
    check_on(&config, "stored_bytes_max", take, has_room).await;
}

/// The limits in the README's table of shares.
fn documented() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("### Shares").expect("there is a section");
    let section = section.split("\n## ").next().expect("it ends");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_resource_of_the_table_has_its_gauges_and_its_row() {
    let server = TestServer::dev("").await;
    let metrics = server.get("/metrics").send().await.text();
    let documented = documented();
    assert!(!documented.is_empty());
    for limit in &documented {
        for gauge in ["tidings_limit_used", "tidings_limit_total"] {
            assert!(metrics.contains(&format!("{gauge}{{limit=\"{limit}\"}}")), "{gauge} of {limit}");
        }
        let elsewhere = ELSEWHERE.iter().any(|(row, file, test)| row == limit && file.contains(test));
        assert!(ROWS.contains(&limit.as_str()) || elsewhere, "{limit} has no row in tests/it/shares.rs");
    }
    for row in ROWS {
        assert!(documented.iter().any(|limit| limit == row), "{row} is not in the README's table of shares");
    }
}
