//! Mutations and invalidations as the bodies of requests have them (R59).

use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, de::DeserializeOwned};

use super::{log_of, tags_of};
use crate::{Code, Invalidation, LogName, Mutation, Mutations, Operation, Problem, Row};

/// A mutation of which parts may be missing, or several under `events`. A field that it does not know is refused: a misspelt
/// one would leave values stale.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MutationDraft {
    /// The log.
    pub ns: Option<String>,
    /// Makes a retry the same mutation.
    pub idempotency_key: Option<String>,
    /// Many rows have one, and it was meant to name the row: see [`refuse_id`].
    id: Option<IgnoredAny>,
    /// What kind of thing was changed.
    pub entity: Option<String>,
    /// Which of that kind.
    #[serde(deserialize_with = "key")]
    pub key: Option<String>,
    /// What was done to it.
    pub op: Option<Operation>,
    /// The row as it was.
    pub before: Option<Row>,
    /// The row as it is.
    pub after: Option<Row>,
    /// Tags beside those of rules.
    pub tags: Vec<String>,
    /// Mutations in place of one.
    pub events: Option<Vec<MutationDraft>>,
}

impl MutationDraft {
    /// Reads what the data of another's event says of a mutation. Its other fields are the publisher's.
    pub fn read_data(text: &str) -> Result<MutationDraft, Problem> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Data {
            ns: Option<String>,
            entity: Option<String>,
            #[serde(deserialize_with = "key")]
            key: Option<String>,
            op: Option<Operation>,
            before: Option<Row>,
            after: Option<Row>,
            tags: Vec<String>,
            events: Option<IgnoredAny>,
        }
        let Data { ns, entity, key, op, before, after, tags, events } = read("mutation", text)?;
        if events.is_some() {
            return Err(unclear("`events` stand in no event"));
        }
        Ok(MutationDraft { ns, entity, key, op, before, after, tags, ..MutationDraft::default() })
    }

    /// The one mutation, where nothing is missing.
    pub fn complete(self) -> Result<Mutation, Problem> {
        let MutationDraft { idempotency_key, id, entity, key, op, before, after, tags, events, .. } = self;
        refuse_id(id)?;
        if events.is_some() {
            return Err(unclear("`events` stand in no event"));
        }
        let needs =
            |field: &str| unclear(format!("a mutation needs `{field}`: {{\"entity\",\"key\",\"op\"}}"));
        Ok(Mutation {
            entity: entity.filter(|entity| !entity.is_empty()).ok_or_else(|| needs("entity"))?,
            key: key.filter(|key| !key.is_empty()).ok_or_else(|| needs("key"))?,
            op: op.ok_or_else(|| needs("op"))?,
            before,
            after,
            tags: tags_of(&tags)?,
            idempotency_key,
        })
    }

    /// Events that stand together go to one log.
    fn check_log(&self, log: &LogName) -> Result<(), Problem> {
        match &self.ns {
            Some(ns) if ns != log.as_str() => Err(unclear(format!(
                "`ns` is {ns:?}, and that of the request is {log}: events of one request go to one log"
            ))),
            _ => Ok(()),
        }
    }
}

/// Reads a mutation, or several that are one event, of the log `ns` where the request names it beside its body.
pub fn decode_mutations(text: &str, ns: Option<&str>) -> Result<Mutations, Problem> {
    let mut draft: MutationDraft = read("mutation", text)?;
    draft.ns = one_log(ns, draft.ns)?;
    let Some(events) = draft.events.take() else {
        return Mutations::of(draft.ns.clone(), vec![draft]);
    };
    if draft.entity.is_some() || draft.key.is_some() || draft.op.is_some() {
        return Err(unclear("a request holds either one mutation or `events`"));
    }
    refuse_id(draft.id)?;
    Ok(Mutations { idempotency_key: draft.idempotency_key, ..Mutations::of(draft.ns, events)? })
}

/// A row's own id was taken for the key of retries: the row's second change within the window was no mutation then.
fn refuse_id(id: Option<IgnoredAny>) -> Result<(), Problem> {
    match id {
        None => Ok(()),
        Some(_) => Err(unclear(
            "a mutation has no `id`: `key` says which row was changed, and `idempotency_key` makes a retry the same mutation",
        )),
    }
}

impl Mutations {
    /// One event of a log that holds all of these.
    pub fn of(ns: Option<String>, drafts: Vec<MutationDraft>) -> Result<Mutations, Problem> {
        let log = log_of(ns.as_deref(), Code::BadRequest)?;
        if drafts.is_empty() {
            return Err(unclear("`events` holds nothing: it needs at least one mutation"));
        }
        let is_one = drafts.len() == 1;
        let of_draft = |(index, draft): (usize, MutationDraft)| {
            let mutation = draft.check_log(&log).and_then(|()| draft.complete());
            mutation.map_err(|problem| match is_one {
                true => problem,
                false => Problem::new(problem.code, format!("events[{index}]: {}", problem.message)),
            })
        };
        let events = drafts.into_iter().enumerate().map(of_draft).collect::<Result<_, _>>()?;
        Ok(Mutations { log, events, idempotency_key: None })
    }
}

/// The log that a request's query and its body name: one of them may say nothing.
fn one_log(request: Option<&str>, body: Option<String>) -> Result<Option<String>, Problem> {
    match (request, &body) {
        (Some(request), Some(body)) if request != body => {
            Err(unclear(format!("`ns` is {request:?} in the query and {body:?} in the body")))
        }
        (Some(request), _) => Ok(Some(request.to_owned())),
        (None, _) => Ok(body),
    }
}

/// Reads an invalidation, `{"ns"?,"idempotency_key"?,"tags":[…]}`, of the log `ns` where the request names it beside its body.
pub fn decode_invalidation(text: &str, query: Option<&str>) -> Result<Invalidation, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        ns: Option<String>,
        idempotency_key: Option<String>,
        tags: Vec<String>,
    }
    let Body { ns, idempotency_key, tags } = read("invalidation", text)?;
    if tags.is_empty() {
        return Err(unclear("`tags` holds nothing: it needs at least one tag"));
    }
    let ns = one_log(query, ns)?;
    Ok(Invalidation { log: log_of(ns.as_deref(), Code::BadRequest)?, idempotency_key, tags: tags_of(&tags)? })
}

fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Problem> {
    let parsed = serde_json::from_str(text).map_err(|error| {
        let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
        Problem::new(code, format!("the {what} cannot be read: {error}"))
    })?;
    // A list of the fields' values would do as well, for who has the fields in mind.
    match text.trim_start().starts_with('{') {
        true => Ok(parsed),
        false => Err(unclear(format!("the {what} cannot be read: it is no JSON object"))),
    }
}

fn unclear(message: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadRequest, message)
}

/// A key: a string, or a whole number, which is its digits.
fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(Key)
}

struct Key;

impl Visitor<'_> for Key {
    type Value = Option<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a whole number of at most 64 bits")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mutation_and_a_batch_of_one_say_the_same() {
        let one = decode_mutations(
            r#"{"entity":"ticket","key":42,"op":"update","after":{"n":12345678901234567890123},"tags":["a"],"idempotency_key":"m1"}"#,
            None,
        );
        let batch = decode_mutations(
            r#"{"ns":"default","idempotency_key":"b1","events":[{"key":"42","entity":"ticket","tags":["a"],"op":"update",
                "before":null,"after":{"n":12345678901234567890123}}]}"#,
            Some("default"),
        );
        let (one, batch) = (one.unwrap(), batch.unwrap());
        assert_eq!(one.said(), batch.said());
        let said = r#"[{"entity":"ticket","key":"42","op":"update","after":{"n":12345678901234567890123},"tags":["a"]}]"#;
        assert_eq!(&*one.said(), said);
        assert_eq!((one.events[0].idempotency_key.as_deref(), one.idempotency_key), (Some("m1"), None));
        let keys = (batch.events[0].idempotency_key.as_deref(), batch.idempotency_key.as_deref());
        assert_eq!(keys, (None, Some("b1")));
        let shop = decode_mutations(r#"{"entity":"a","key":1,"op":"create"}"#, Some("shop")).unwrap();
        assert_eq!(shop.log.as_str(), "shop");
    }

    #[test]
    fn what_is_no_mutation_is_refused_with_what_is_missing() {
        for (text, code, why) in [
            ("", Code::InvalidJson, "cannot be read"),
            ("[]", Code::BadRequest, "no JSON object"),
            (r#"[null,null,"a","1","create"]"#, Code::BadRequest, "no JSON object"),
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
            (r#"{"events":[{},{}]}"#, Code::BadRequest, "events[0]: "),
            (r#"{"entity":"a","key":"1","op":"create","id":"1"}"#, Code::BadRequest, "`idempotency_key`"),
            (
                r#"{"id":"b","events":[{"entity":"a","key":"1","op":"create"}]}"#,
                Code::BadRequest,
                "`idempotency_key`",
            ),
            (
                r#"{"entity":"a","key":"1","op":"create","tag":["b"]}"#,
                Code::BadRequest,
                "unknown field `tag`",
            ),
            (r#"{"events":[{"entity":"a","key":"1","op":"create","Tags":[]}]}"#, Code::BadRequest, "`Tags`"),
            (r#"{"ns":"x","entity":"a","key":"1","op":"create"}"#, Code::BadRequest, "in the query"),
        ] {
            let query = text.contains("\"x\",\"entity\"").then_some("shop");
            let problem = decode_mutations(text, query).expect_err(text);
            assert_eq!(problem.code, code, "{text}");
            assert!(problem.message.contains(why), "{text}: {}", problem.message);
        }
    }

    #[test]
    fn an_invalidation_names_at_least_one_tag() {
        let invalidation = decode_invalidation(r#"{"ns":"shop","tags":["a:*","b"]}"#, None).unwrap();
        assert_eq!((invalidation.log.as_str(), invalidation.tags.len()), ("shop", 2));
        for (text, code) in [
            (r#"{"tags":[]}"#, Code::BadRequest),
            (r#"{"tag":"a"}"#, Code::BadRequest),
            (r#"{"tags":["a"],"tag":"b"}"#, Code::BadRequest),
            (r#"{"tags":["a"],"id":"1"}"#, Code::BadRequest),
            (r#"{"tags":["a"],"ns":"shop"}"#, Code::BadRequest),
            (r#"{}"#, Code::BadRequest),
            (r#"{"tags":["a*"]}"#, Code::TagInvalid),
            (r#"[null,["a"]]"#, Code::BadRequest),
            ("tags", Code::InvalidJson),
        ] {
            assert_eq!(decode_invalidation(text, Some("default")).unwrap_err().code, code, "{text}");
        }
    }
}
