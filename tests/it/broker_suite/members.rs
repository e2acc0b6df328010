//! Who is in a channel, as Redis keeps it.

use super::subject::BrokerSubject;
use crate::support::RedisServer;

#[tokio::test]
async fn those_who_came_first_are_listed_first_however_late_they_were_told_of() {
    let server = RedisServer::start("").await;
    let subject = BrokerSubject::redis(&server, "").await;
    // The order in which their lives end is another one than that in which they came.
    for (session, since) in [("third", 30), ("first", 10), ("fourth", 40), ("second", 20)] {
        subject.enter("a", session, since).await;
    }
    let all = ["first", "second", "third", "fourth"];
    for limit in 0..6 {
        let listed: Vec<String> = all.iter().take(limit).map(ToString::to_string).collect();
        assert_eq!(subject.sessions("a", limit).await, (listed, 4), "{limit}");
    }
    // More than one step of the script looks at.
    for number in 0..300 {
        subject.enter("many", &format!("{number:03}"), 1_000 - number).await;
    }
    let (listed, count) = subject.sessions("many", 200).await;
    assert_eq!((listed.len(), count, &*listed[0], &*listed[199]), (200, 300, "299", "100"));
}

#[tokio::test]
async fn members_are_listed_where_writes_are_refused() {
    let server = RedisServer::start("").await;
    let subject = BrokerSubject::redis(&server, "[redis]\npresence_life = \"1s\"\n").await;
    subject.enter("a", "stays", 10).await;
    // Nobody renews it: an instance that died.
    server.command(&["ZADD", "tidings:{a}:e", "1", "gone"]).await;
    server
        .command(&["HSET", "tidings:{a}:a", "gone", "{\"user\":\"\",\"session\":\"gone\",\"since\":1}"])
        .await;
    server.command(&["ZADD", "tidings:{a}:o", "1", "gone"]).await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    assert_eq!(subject.sessions("a", 10).await, (vec!["stays".to_owned()], 1));
}
