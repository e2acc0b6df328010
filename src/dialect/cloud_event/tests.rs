use tidings_protocol::Mutation;

use super::*;

fn structured(attributes: &str) -> Result<CloudEvent, Problem> {
    CloudEvent::structured(&format!(r#"{{"specversion":"1.0","id":"e1","source":"/crm",{attributes}}}"#))
}

fn mutation(attributes: &str) -> Result<Mutation, Problem> {
    structured(attributes)?.into_mutation()?.complete()
}

#[test]
fn a_mutation_is_what_the_data_says_and_else_what_the_attributes_say() {
    for (attributes, entity, key, op) in [
        (
            r#""type":"t","data":{"entity":"ticket","key":42,"op":"update"}"#,
            "ticket",
            "42",
            Operation::Update,
        ),
        (
            r#""type":"t","subject":"x:1","data":{"entity":"ticket","key":"42","op":"update"}"#,
            "ticket",
            "42",
            Operation::Update,
        ),
        (r#""type":"t","subject":"ticket:4:2","data":{"op":"create"}"#, "ticket", "4:2", Operation::Create),
        (
            r#""type":"t","subject":"ticket:42","data":{"entity":"ticket","op":"create"}"#,
            "ticket",
            "42",
            Operation::Create,
        ),
        (
            r#""type":"t","subject":"7:42","data":{"entity":"ticket","op":"create"}"#,
            "ticket",
            "7:42",
            Operation::Create,
        ),
        (r#""type":"com.example.ticket.updated","subject":"42""#, "ticket", "42", Operation::Update),
        (r#""type":"com.example.tickets.deleted","subject":"ticket:42""#, "ticket", "42", Operation::Delete),
    ] {
        let mutation = mutation(attributes).unwrap_or_else(|problem| panic!("{attributes}: {problem}"));
        assert_eq!(
            (mutation.entity.as_str(), mutation.key.as_str(), mutation.op),
            (entity, key, op),
            "{attributes}"
        );
        assert_eq!(mutation.idempotency_key.as_deref(), Some("/crm e1"));
    }
    let tagged = structured(
        r#""type":"t","subject":"a:1","tags":"b, c","ns":"shop","data":{"op":"update","tags":["d"]}"#,
    );
    let draft = tagged.unwrap().into_mutation().unwrap();
    assert_eq!(
        (draft.tags.as_slice(), draft.ns.as_deref()),
        (&["d", "b", "c"].map(String::from)[..], Some("shop"))
    );
}

#[test]
fn what_neither_says_is_missing() {
    for (attributes, why) in [
        (r#""type":"ticket.touched","subject":"ticket:42""#, "needs `op`"),
        (r#""type":"ticket.updated""#, "needs `key`"),
        (r#""type":"updated","subject":"42""#, "needs `entity`"),
        (r#""type":"ticket.updated","subject":"42","data":[1]"#, "cannot be read"),
        (r#""type":"ticket.updated","subject":"42","data":{"events":[]}"#, "in no event"),
        (r#""type":"ticket.updated","subject":"42","data":{},"data_base64":"""#, "not both"),
        (r#""type":"""#, "`type` is empty"),
        (r#""kind":"t""#, "missing field `type`"),
        (r#""type":"t","specversion":"1.0""#, "duplicate field"),
    ] {
        let problem = mutation(attributes).expect_err(attributes);
        assert_eq!(problem.code, Code::BadRequest, "{attributes}");
        assert!(problem.message.contains(why), "{attributes}: {}", problem.message);
    }
    let old =
        CloudEvent::structured(r#"{"specversion":"0.3","id":"a","source":"b","type":"c"}"#).unwrap_err();
    assert!(old.message.contains("version 1.0"), "{}", old.message);
    assert_eq!(CloudEvent::structured("{").unwrap_err().code, Code::InvalidJson);
    assert_eq!(CloudEvent::batched("[]").unwrap_err().code, Code::BadRequest);
}

#[test]
fn a_publish_has_the_channel_of_its_subject_and_the_data_as_its_type_says() {
    for (attributes, data) in [
        (r#""data":{"n":1.50}"#, "json {\"n\":1.50}"),
        (r#""data":"text""#, "json \"text\""),
        (r#""datacontenttype":"text/plain","data":"te\"xt""#, "text te\"xt"),
        (r#""datacontenttype":"application/xml","data":"<a/>""#, "text <a/>"),
        (r#""datacontenttype":"image/png","data_base64":"AAE=""#, "bytes \u{0}\u{1}"),
    ] {
        let event = structured(&format!(r#""type":"t","subject":"room:7",{attributes}"#)).unwrap();
        let publish = event.into_publish().unwrap();
        assert_eq!(
            (publish.channel.as_str(), publish.idempotency_key.as_deref()),
            ("room:7", Some("/crm e1"))
        );
        let text = String::from_utf8_lossy(publish.payload.as_bytes()).into_owned();
        let shown = match publish.payload {
            Payload::Json(_) => format!("json {text}"),
            Payload::Text(_) => format!("text {text}"),
            Payload::Binary(_) => format!("bytes {text}"),
        };
        assert_eq!(shown, data);
    }
    for (attributes, code) in [
        (r#""type":"t","data":1"#, Code::BadRequest),
        (r#""type":"t","subject":"a b","data":1"#, Code::ChannelInvalid),
        (r#""type":"t","subject":"a""#, Code::BadRequest),
    ] {
        let refused = structured(attributes).unwrap().into_publish().unwrap_err();
        assert_eq!(refused.code, code, "{attributes}");
    }
}

#[test]
fn attributes_in_headers_are_decoded_and_their_data_is_the_body() {
    let headers = [
        ("specversion", "1.0"),
        ("id", "100%25"),
        ("source", "/a"),
        ("type", "t"),
        ("subject", "caf%C3%A9:%zz"),
    ];
    let attribute = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let event =
        CloudEvent::binary(attribute, Some("application/json; charset=utf-8"), b"{\"op\":\"create\"}")
            .unwrap();
    assert_eq!((event.subject.as_deref(), event.key().as_str()), (Some("café:%zz"), "/a 100%"));
    assert_eq!(event.into_mutation().unwrap().op, Some(Operation::Create));
    let without = |missing: &'static str| move |name: &str| attribute(name).filter(|_| name != missing);
    for name in ["specversion", "id", "source", "type"] {
        let problem = CloudEvent::binary(without(name), None, b"").unwrap_err();
        assert!(problem.message.contains(&format!("ce-{name}")), "{}", problem.message);
    }
    assert_eq!(CloudEvent::binary(attribute, None, b"{").unwrap_err().code, Code::InvalidJson);
}

#[test]
fn long_names_make_keys_that_differ() {
    let key = |id: &str| {
        let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/a","type":"t"}}"#);
        CloudEvent::structured(&json).unwrap().key()
    };
    let (one, other) = (key(&"a".repeat(300)), key(&"b".repeat(300)));
    assert!(one != other && one.len() <= KEY_BYTES_MAX && one.starts_with("sha256:"), "{one}");
    assert_eq!(key(&"a".repeat(252)).len(), 255);
}
