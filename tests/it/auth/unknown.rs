//! Whoever may not see a channel does not learn whether there is one.

use serde_json::json;

use super::{publish, server, socket};
use crate::support::Token;

#[tokio::test]
async fn what_may_not_be_seen_answers_as_what_does_not_exist() {
    let server = server("[namespace.room]\npresence = true").await;
    publish(&server, "room:secret", "1").await;
    let mut member = socket(&server, &Token::of("bob").subscribe("room:*").sign()).await;
    member.subscribe("room:secret").await;
    let token = Token::of("ada").subscribe("own:*").publish("own:*").sign();
    let mut ada = socket(&server, &token).await;
    let mut answers = Vec::new();
    // Names of one length, so that nothing but the name itself can differ.
    for name in ["room:secret", "room:nobody", "none:secret"] {
        let mut said = Vec::new();
        for path in [format!("/v1/channels/{name}/history"), format!("/v1/channels/{name}/presence")] {
            let answer = server.get(&path).bearer(&token).send().await;
            said.push(format!("{} {}", answer.status, answer.text()));
        }
        let answer = server.get(&format!("/sse?channel={name}&presence=1")).bearer(&token).send().await;
        said.push(format!("{} {}", answer.status, answer.text()));
        let answer = server.post(&format!("/v1/publish/{name}"), "1").bearer(&token).send().await;
        said.push(format!("{} {}", answer.status, answer.text()));
        for command in [
            json!({"subscribe": {"channel": name}}),
            json!({"subscribe": {"channel": name, "presence": true}}),
            json!({"history": {"channel": name}}),
            json!({"presence": {"channel": name}}),
            json!({"publish": {"channel": name, "data": 1}}),
        ] {
            let mut answer = ada.ask(command).await;
            answer["id"] = json!(0);
            said.push(answer.to_string());
        }
        answers.push(said.join("\n").replace(name, "NAME"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert!(answers[0].contains("channel_not_allowed"));
    let list = server.get("/v1/channels").bearer(&token).send().await;
    assert_eq!(list.code(), "operation_not_allowed");
    assert!(!list.text().contains("secret"));
}
