//! Bodies of requests as their readers see them: publishes, mutations, invalidations and CloudEvents.

use tidings::dialect::cloud_event::CloudEvent;
use tidings_protocol::{
    Channel, Mutations, Problem, PublishCommand, decode_invalidation, decode_mutations, decode_publish,
};

const MESSAGE_BYTES_MAX: usize = 1_000;

pub(crate) fn bodies(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    said(decode_publish(text).map(|publish| publish_holds(&publish)));
    said(decode_mutations(text, None).map(|mutations| mutations_hold(&mutations)));
    said(decode_invalidation(text, None).map(|invalidation| assert!(!invalidation.said().is_empty())));
    said(CloudEvent::structured(text).map(event_holds));
    said(CloudEvent::batched(text).map(|events| events.into_iter().for_each(event_holds)));
    binary(text);
}

/// A refusal is one that the sender can do something about.
fn said(read: Result<(), Problem>) {
    if let Err(problem) = read {
        assert!((400..500).contains(&problem.code.status()), "{problem:?}");
        assert!(!problem.message.is_empty());
    }
}

fn publish_holds(publish: &PublishCommand) {
    assert_eq!(Channel::parse(publish.channel.as_str()).as_ref(), Ok(&publish.channel));
    said(publish.check(MESSAGE_BYTES_MAX));
}

fn mutations_hold(mutations: &Mutations) {
    assert!(!mutations.said().is_empty());
}

fn event_holds(event: CloudEvent) {
    said(event.clone().into_publish().map(|publish| publish_holds(&publish)));
    let whole = event.into_mutation().and_then(|draft| Mutations::of(None, vec![draft]));
    said(whole.map(|mutations| mutations_hold(&mutations)));
}

/// The first line of each attribute's text, and the rest as the body.
fn binary(text: &str) {
    let mut lines = text.splitn(8, '\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let [id, source, kind, subject, tags, ns, content_type] = [(); 7].map(|()| line());
    let attribute = |name: &str| match name {
        "specversion" => Some("1.0"),
        "id" => id,
        "source" => source,
        "type" => kind,
        "subject" => subject,
        "tags" => tags,
        "ns" => ns,
        _ => None,
    };
    let body = lines.next().unwrap_or_default();
    said(CloudEvent::binary(attribute, content_type, body.as_bytes()).map(event_holds));
}
