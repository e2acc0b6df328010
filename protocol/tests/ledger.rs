//! The vectors of the client's books (`protocol/vectors/ledger.json`), run against this crate, and what is too long for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidings_protocol::{
    Effect, Frame, Freshness, LeaseClock, Ledger, Position, Reading, Stored, Tag, WatchedFrame, decode_frame,
};

/// The books of a client, with its effects in the vectors' words.
#[derive(Default)]
struct Client {
    ledger: Ledger<String>,
    clock: LeaseClock,
}

impl Client {
    /// Does one thing; gives what is answered, where something is.
    fn handle(&mut self, input: &Value) -> Option<Value> {
        let object = input.as_object().expect("a step is an object");
        let name = object.keys().find(|key| !matches!(key.as_str(), "id" | "now")).expect("it has a name");
        let (body, number) = (&input[name], |value: &Value| value.as_u64().expect("a number"));
        match name.as_str() {
            "connected" => self.ledger.connected(number(&body["lease_ms"])),
            "disconnected" => self.ledger.disconnected(),
            "ping" => self.ledger.pinged(number(&body["c"])),
            "begin" => return Some(json!(self.ledger.begin(number(body)))),
            "store" => return Some(self.store(body)),
            "check" => {
                let freshness = self.ledger.check(&text(body), number(&input["now"]));
                return Some(json!(match freshness {
                    Freshness::Fresh => "fresh",
                    Freshness::Stale => "stale",
                    Freshness::Unknown => "unknown",
                }));
            }
            "asked" => return Some(json!(self.ledger.is_asked(&text(body)))),
            "mutated" => self.ledger.mutated(&position(&body["position"]).expect("a position"), tags(body)),
            "forget" => self.ledger.forget(&text(body)),
            "clock" => {
                return Some(json!(self.clock.read(number(&body["monotonic"]), number(&body["wall"]))));
            }
            _ => self.told(input),
        }
        None
    }

    fn store(&mut self, body: &Value) -> Value {
        let (begun, told) = (position(&body["begun"]), position(&body["told"]));
        let except = position(&body["except"]);
        let tags = (!body["tags"].is_null()).then(|| tags(body).into_iter().collect());
        json!(match self.ledger.stored(text(&body["key"]), Reading { tags, begun, told, except }) {
            Stored::Kept => "kept",
            Stored::Touched => "touched",
            Stored::Older => "older",
            Stored::NoBasis => "no_basis",
            Stored::NoTags => "no_tags",
        })
    }

    fn told(&mut self, input: &Value) {
        let envelope = decode_frame(&input.to_string()).expect("a frame").expect("of this version");
        let id = || envelope.id.expect("an answer has an id");
        match &envelope.frame {
            Frame::Watched(frame) => self.ledger.watched(id(), frame),
            Frame::Error(_) => self.ledger.refused(id()),
            Frame::Invalidated(frame) => self.ledger.invalidated(frame),
            Frame::At(frame) => self.ledger.at(frame),
            Frame::Reset(frame) => self.ledger.reset(frame),
            Frame::Continued(frame) => self.ledger.continued(frame),
            frame => panic!("{frame:?} is not of a log"),
        }
    }

    fn effects(&mut self) -> Vec<Value> {
        let said = |effect| match effect {
            Effect::Watch(watch) => json!({"id": watch.id, "watch": {"groups": watch.groups}}),
            Effect::Unwatch(tags) => json!({"unwatch": {"tags": tags}}),
            Effect::UnwatchEscalated(tags) => json!({"unwatch": {"tags": [], "escalated": tags}}),
            Effect::Stale(key) => json!({"stale": key}),
            Effect::Proven(key) => json!({"proven": key}),
            Effect::Forget(key) => json!({"forget": key}),
        };
        self.ledger.effects().into_iter().map(said).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn position(value: &Value) -> Option<Position> {
    serde_json::from_value(value.clone()).expect("a position or nothing")
}

fn tags(body: &Value) -> Vec<Tag> {
    serde_json::from_value(body["tags"].clone()).expect("tags")
}

fn in_any_order(effects: &[Value]) -> Vec<String> {
    let mut effects: Vec<String> = effects.iter().map(Value::to_string).collect();
    effects.sort();
    effects
}

fn run(case: &Value) -> Result<(), String> {
    let mut client = Client::default();
    for (index, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let said = client.handle(&step["in"]);
        let at = format!("{} step {index}, {}", case["name"], step["in"]);
        if said != step.get("is").cloned() {
            return Err(format!("{at}\n  expected {:?}\n  got      {said:?}", step.get("is")));
        }
        let expected = step.get("out").and_then(Value::as_array).cloned().unwrap_or_default();
        let effects = client.effects();
        if in_any_order(&effects) != in_any_order(&expected) {
            return Err(format!("{at}\n  expected {}\n  got      {}", json!(expected), json!(effects)));
        }
    }
    Ok(())
}

#[test]
fn the_books_say_what_the_vectors_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/ledger.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the vectors are a list of cases");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let failed: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).expect("a tag")
}

fn at(text: &str) -> Position {
    text.parse().expect("a position")
}

/// A value with these tags, of which its read told the basis.
fn read(tags: impl IntoIterator<Item = Tag>, basis: &str) -> Reading {
    Reading { tags: Some(tags.into_iter().collect()), told: Some(at(basis)), ..Reading::default() }
}

/// The answer that finds nothing stale.
fn clean(position: &str) -> WatchedFrame {
    let nothing = Vec::new;
    WatchedFrame {
        ns: Default::default(),
        at: at(position),
        stale: nothing(),
        denied: nothing(),
        no_room: nothing(),
        escalated: nothing(),
        spread_ms: 0,
    }
}

/// The tags of each command that the books ask for.
fn asked(ledger: &mut Ledger<usize>) -> Vec<(u64, Vec<Tag>)> {
    let watches = ledger.effects().into_iter().filter_map(|effect| match effect {
        Effect::Watch(watch) => Some(watch),
        _ => None,
    });
    watches.map(|watch| (watch.id, watch.groups.into_iter().flat_map(|group| group.tags).collect())).collect()
}

#[test]
fn many_tags_are_asked_in_commands_that_a_server_takes_and_none_names_a_tag_twice() {
    let mut ledger = Ledger::new();
    for key in 0..2_500 {
        let tags = [tag("everything"), tag(&format!("row:{key}"))];
        assert_eq!(ledger.stored(key, read(tags, &format!("a.{}", key % 3 + 1))), Stored::Kept);
    }
    ledger.connected(15_000);
    let asked = asked(&mut ledger);
    for (_, tags) in &asked {
        let once: BTreeSet<&Tag> = tags.iter().collect();
        assert!(tags.len() <= 1_000 && once.len() == tags.len(), "{} tags", tags.len());
    }
    assert_eq!(asked.iter().map(|(_, tags)| tags.len()).sum::<usize>(), 2_503);
    for (id, _) in asked {
        ledger.watched(id, &clean("a.9"));
    }
    assert_eq!(ledger.effects().len(), 2_500);
}

#[test]
fn commands_fit_into_what_every_server_takes_however_long_the_tags_are() {
    let mut ledger = Ledger::new();
    let tags: Vec<Tag> = (0..900).map(|n| tag(&format!("{}{n}", "\\".repeat(250)))).collect();
    assert_eq!(ledger.stored(1, read(tags.clone(), "a.1")), Stored::Kept);
    ledger.connected(15_000);
    let mut effects = ledger.effects();
    ledger.forget(&1);
    effects.extend(ledger.effects());
    let mut named = 0;
    for effect in &effects {
        let (text, tags) = match effect {
            Effect::Watch(watch) => {
                (json!(watch.groups).to_string(), watch.groups.iter().map(|group| group.tags.len()).sum())
            }
            Effect::Unwatch(tags) => (json!(tags).to_string(), tags.len()),
            other => panic!("{other:?} is not sent"),
        };
        assert!(text.len() < 60_000, "{} bytes", text.len());
        named += tags;
    }
    assert_eq!(named, 2 * tags.len());
}

#[test]
fn many_values_are_asked_about_at_once_and_what_was_dropped_meanwhile_is_not() {
    let row = |key: usize| tag(&format!("row:{key}"));
    let mut ledger = Ledger::new();
    ledger.connected(15_000);
    for key in 0..300 {
        ledger.stored(key, read([row(key)], "a.1"));
    }
    (100..300).for_each(|key| ledger.forget(&key));
    let first = asked(&mut ledger);
    assert_eq!(first.iter().map(|(_, tags)| tags.len()).collect::<Vec<_>>(), [100]);
    (0..100).for_each(|key| ledger.forget(&key));
    ledger.stored(0, read([row(0)], "a.2"));
    match &ledger.effects()[..] {
        [Effect::Unwatch(tags), Effect::Watch(watch)] => {
            assert!(tags.len() == 99 && !tags.contains(&row(0)));
            assert_eq!(watch.groups[0].tags, [row(0)]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_that_sees_too_many_own_mutations_go_by_is_refused() {
    let mut ledger = Ledger::new();
    ledger.connected(15_000);
    ledger.effects();
    ledger.watched(1, &clean("a.1"));
    for offset in 2..=300 {
        ledger.mutated(&at(&format!("a.{offset}")), [tag(&format!("row:{offset}"))]);
    }
    assert_eq!(ledger.stored(1, read([tag("other")], "a.1")), Stored::Touched);
    assert_eq!(ledger.stored(1, read([tag("other")], "a.200")), Stored::Kept);
    assert_eq!(ledger.stored(2, read([tag("row:250")], "a.249")), Stored::Touched);
}
