//! What one Redis holds for several clusters, and what a later version may have stored.

use tidings::broker::BrokerEvent;
use tidings_protocol::{Ack, Offset};

use super::reading::{ALL, texts};
use super::subject::{BrokerSubject, Subject};
use crate::support::{RedisServer, eventually};

const VOLATILE: &str = "[namespace.volatile]\nhistory_size = 0\n";

#[tokio::test]
async fn databases_of_one_server_do_not_hear_each_other() {
    let server = RedisServer::start("").await;
    let mut zero = BrokerSubject::redis(&server, VOLATILE).await;
    let url = format!("{}/2", server.url());
    let mut two = BrokerSubject::redis_at(&url, server.address(), VOLATILE).await;
    for subject in [&mut zero, &mut two] {
        subject.listen("a").await;
        subject.listen("volatile:a").await;
    }
    let position = two.position("a", "of two").await;
    two.publish("volatile:a", "of two", None, Ack::Stored).await.expect("it is announced");
    assert_eq!(zero.position("a", "of zero").await.offset, Offset(1));
    zero.publish("volatile:a", "of zero", None, Ack::Stored).await.expect("it is announced");
    for (subject, own) in [(&mut zero, "of zero"), (&mut two, "of two")] {
        for _ in 0..2 {
            let heard = loop {
                if let BrokerEvent::Publication { publication, .. } = subject.heard().await {
                    break publication;
                }
            };
            assert_eq!(heard.payload.as_bytes(), own.as_bytes());
        }
    }
    let page = two.history("a", None, ALL).await.expect("it has positions");
    assert_eq!((page.head(), texts(&page)), (position, vec!["of two".to_owned()]));
    for subject in [&zero, &two] {
        eventually("its own beacon", async || (subject.peers().len() == 1).then_some(())).await;
    }
}

/// Stores and announces a publication of text with one field more than this version writes.
const LATER: &str = "
local record = '\\149\\001\\196\\003new\\192\\192\\163add'
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local entry = '9999999999999 ' .. record
redis.call('XADD', KEYS[2], '2-0', 'p', entry)
redis.call('HSET', KEYS[1], 'offset', 2)
redis.call('PUBLISH', 'tidings:{a}', epoch .. '.2 ' .. entry)
return 1";

#[tokio::test]
async fn what_a_later_version_stores_and_announces_is_read() {
    let server = RedisServer::start("").await;
    let mut subject = BrokerSubject::redis(&server, "").await;
    subject.listen("a").await;
    let first = subject.position("a", "1").await;
    let stored = server.command(&["EVAL", LATER, "2", "tidings:{a}:m", "tidings:{a}:s"]).await;
    assert_eq!(stored.integer(), 1);
    let page = subject.history("a", Some(&first), ALL).await.expect("it has positions");
    assert_eq!((page.gap, texts(&page)), (None, vec!["new".to_owned()]));
    let mut heard = Vec::new();
    while heard.len() < 2 {
        match subject.heard().await {
            BrokerEvent::Publication { publication, .. } => {
                heard.push(String::from_utf8(publication.payload.as_bytes().to_vec()).expect("it is text"));
            }
            BrokerEvent::Lost(channel) => panic!("{channel} lost nothing"),
            _ => {}
        }
    }
    assert_eq!(heard, ["1", "new"]);
}
