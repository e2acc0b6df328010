//! A defect of the server, which test builds have on request: it ends what met it, with the word for it, and nothing else.

use serde_json::json;
use tidings::ablation::DEFECT;

use super::siege::{Siege, greeted};

#[tokio::test]
async fn a_defect_ends_what_met_it_with_its_own_word_and_is_counted() {
    let siege = Siege::begin("").await;
    let panics = async || siege.metrics().await.metric("tidings_panics_total", "");
    let mut neighbour = greeted(siege.address).await;
    neighbour.subscribe("c").await;

    let path = format!("/v1/publish/{}", DEFECT.replace(':', "%3A"));
    let answer = siege.request("POST", &path).body("1").send().await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert_eq!(panics().await, 1.0);

    let mut socket = greeted(siege.address).await;
    socket.send(json!({"publish": {"channel": DEFECT, "data": 1}})).await;
    let (_, closed) = socket.closed().await;
    assert_eq!((closed.code, closed.reason.split(':').next()), (1011, Some("internal")));
    assert_eq!(panics().await, 2.0);

    let published = siege.request("POST", "/v1/publish/c").body("1").send().await;
    assert_eq!(published.status, 200, "everybody else goes on");
    assert_eq!(neighbour.data("c", 1).await, [json!(1)]);
}
