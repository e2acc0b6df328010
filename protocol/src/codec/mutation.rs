//! Mutations and invalidations as the bodies of requests have them (R59).

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, de::DeserializeOwned};

use super::{log_of, tags_of};
use crate::{Code, Invalidation, LogName, Mutation, Mutations, Operation, Problem, Row};

/// A mutation, or several under `events`.
#[derive(Deserialize)]
struct MutationBody {
    ns: Option<String>,
    id: Option<String>,
    entity: Option<String>,
    key: Option<Key>,
    op: Option<Operation>,
    before: Option<Row>,
    after: Option<Row>,
    #[serde(default)]
    tags: Vec<String>,
    events: Option<Vec<MutationBody>>,
}

/// Reads a mutation, or several that are one event. Unknown fields are ignored.
pub fn decode_mutations(text: &str) -> Result<Mutations, Problem> {
    let mut body: MutationBody = read("mutation", text)?;
    let log = log_of(body.ns.as_deref(), Code::BadRequest)?;
    let Some(events) = body.events.take() else {
        return Ok(Mutations { log, events: vec![mutation_of(body)?], id: None });
    };
    if body.entity.is_some() || body.key.is_some() || body.op.is_some() {
        return Err(unclear("a request holds either one mutation or `events`"));
    }
    if events.is_empty() {
        return Err(unclear("`events` holds nothing: it needs at least one mutation"));
    }
    let of_event = |(index, event): (usize, MutationBody)| {
        let mutation = check_log(&event, &log).and_then(|()| mutation_of(event));
        mutation
            .map_err(|problem| Problem::new(problem.code, format!("events[{index}]: {}", problem.message)))
    };
    let events = events.into_iter().enumerate().map(of_event).collect::<Result<_, _>>()?;
    Ok(Mutations { log, events, id: body.id })
}

/// Events that stand together go to one log.
fn check_log(event: &MutationBody, log: &LogName) -> Result<(), Problem> {
    match &event.ns {
        Some(ns) if ns != log.as_str() => Err(unclear(format!(
            "`ns` is {ns:?}, and that of the request is {log}: events of one request go to one log"
        ))),
        _ => Ok(()),
    }
}

fn mutation_of(body: MutationBody) -> Result<Mutation, Problem> {
    let MutationBody { id, entity, key, op, before, after, tags, events, .. } = body;
    if events.is_some() {
        return Err(unclear("`events` stand in no event"));
    }
    let needs = |field: &str| unclear(format!("a mutation needs `{field}`: {{\"entity\",\"key\",\"op\"}}"));
    Ok(Mutation {
        entity: entity.filter(|entity| !entity.is_empty()).ok_or_else(|| needs("entity"))?,
        key: key.map(|Key(key)| key).filter(|key| !key.is_empty()).ok_or_else(|| needs("key"))?,
        op: op.ok_or_else(|| needs("op"))?,
        before,
        after,
        tags: tags_of(&tags)?,
        id,
    })
}

/// Reads an invalidation: `{"ns"?,"tags":[…]}`.
pub fn decode_invalidation(text: &str) -> Result<Invalidation, Problem> {
    #[derive(Deserialize)]
    struct Body {
        ns: Option<String>,
        tags: Vec<String>,
    }
    let Body { ns, tags } = read("invalidation", text)?;
    if tags.is_empty() {
        return Err(unclear("`tags` holds nothing: it needs at least one tag"));
    }
    Ok(Invalidation { log: log_of(ns.as_deref(), Code::BadRequest)?, tags: tags_of(&tags)? })
}

fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
        Problem::new(code, format!("the {what} cannot be read: {error}"))
    })
}

fn unclear(message: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadRequest, message)
}

/// A key: a string, or a whole number, which is its digits.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Key(String::new()))
    }
}

impl Visitor<'_> for Key {
    type Value = Key;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a whole number of at most 64 bits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Key, E> {
        Ok(Key(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Key, E> {
        Ok(Key(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mutation_and_a_batch_of_one_say_the_same() {
        let one = decode_mutations(
            r#"{"entity":"ticket","key":42,"op":"update","after":{"n":12345678901234567890123},"tags":["a"],"id":"m1"}"#,
        );
        let batch = decode_mutations(
            r#"{"ns":"default","id":"b1","events":[{"key":"42","entity":"ticket","tags":["a"],"op":"update","before":null,
                "after":{"n":12345678901234567890123},"colour":"red"}]}"#,
        );
        let (one, batch) = (one.unwrap(), batch.unwrap());
        assert_eq!(one.said(), batch.said());
        let said = r#"[{"entity":"ticket","key":"42","op":"update","after":{"n":12345678901234567890123},"tags":["a"]}]"#;
        assert_eq!(&*one.said(), said);
        assert_eq!((one.events[0].id.as_deref(), one.id), (Some("m1"), None));
        assert_eq!((batch.events[0].id.as_deref(), batch.id.as_deref()), (None, Some("b1")));
    }

    #[test]
    fn what_is_no_mutation_is_refused_with_what_is_missing() {
        for (text, code, why) in [
            ("", Code::InvalidJson, "cannot be read"),
            ("[]", Code::BadRequest, "cannot be read"),
            ("{}", Code::BadRequest, "needs `entity`"),
            (r#"{"entity":"a","op":"create"}"#, Code::BadRequest, "needs `key`"),
            (r#"{"entity":"a","key":"","op":"create"}"#, Code::BadRequest, "needs `key`"),
            (r#"{"entity":"a","key":1.5,"op":"create"}"#, Code::BadRequest, "whole number"),
            (r#"{"entity":"a","key":"1"}"#, Code::BadRequest, "needs `op`"),
            (r#"{"entity":"a","key":"1","op":"upsert"}"#, Code::BadRequest, "upsert"),
            (r#"{"entity":"a","key":"1","op":"create","after":[1]}"#, Code::BadRequest, "map"),
            (r#"{"entity":"a","key":"1","op":"create","tags":["a b"]}"#, Code::TagInvalid, "a b"),
            (r#"{"entity":"a","key":"1","op":"create","ns":"a b"}"#, Code::BadRequest, "`ns`"),
            (r#"{"events":[]}"#, Code::BadRequest, "holds nothing"),
            (r#"{"entity":"a","events":[{}]}"#, Code::BadRequest, "either"),
            (r#"{"events":[{"entity":"a","key":"1","op":"create"},{}]}"#, Code::BadRequest, "events[1]: "),
            (r#"{"events":[{"events":[]}]}"#, Code::BadRequest, "in no event"),
            (r#"{"events":[{"ns":"x","entity":"a","key":"1","op":"create"}]}"#, Code::BadRequest, "one log"),
        ] {
            let problem = decode_mutations(text).expect_err(text);
            assert_eq!(problem.code, code, "{text}");
            assert!(problem.message.contains(why), "{text}: {}", problem.message);
        }
    }

    #[test]
    fn an_invalidation_names_at_least_one_tag() {
        let invalidation = decode_invalidation(r#"{"ns":"shop","tags":["a:*","b"]}"#).unwrap();
        assert_eq!((invalidation.log.as_str(), invalidation.tags.len()), ("shop", 2));
        for (text, code) in [
            (r#"{"tags":[]}"#, Code::BadRequest),
            (r#"{}"#, Code::BadRequest),
            (r#"{"tags":["a*"]}"#, Code::TagInvalid),
            ("tags", Code::InvalidJson),
        ] {
            assert_eq!(decode_invalidation(text).unwrap_err().code, code, "{text}");
        }
    }
}
