//! The shared vectors (`protocol/vectors`), run against this crate; the JavaScript client runs the same.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidings_protocol::{
    Continuity, Envelope, ErrorFrame, Frame, Outstanding, Position, Reaction, decode_command, decode_frame,
    encode_command, encode_frame,
};

fn vectors(name: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("the vectors are a list of cases")
}

/// A channel of a client, with its effects in the vectors' words.
struct Client {
    continuity: Continuity,
    connected: bool,
}

impl Client {
    fn new(since: &Value) -> Client {
        let since: Option<Position> = serde_json::from_value(since.clone()).expect("a position or null");
        Client { continuity: since.map_or_else(Continuity::new, Continuity::since), connected: false }
    }

    fn position(&self) -> Value {
        json!(self.continuity.position())
    }

    fn handle(&mut self, input: &Value) -> Vec<Value> {
        match input["event"].as_str() {
            Some("connected") => {
                self.connected = true;
                self.ask()
            }
            Some("disconnected") => {
                self.connected = false;
                let reactions = self.continuity.disconnected();
                self.effects(reactions)
            }
            Some("retry") => self.ask(),
            Some(event) => panic!("there is no event {event}"),
            None => {
                let envelope = decode_frame(&input.to_string()).expect("a frame").expect("of this version");
                self.handle_frame(envelope)
            }
        }
    }

    fn handle_frame(&mut self, envelope: Envelope) -> Vec<Value> {
        if !self.connected {
            return Vec::new();
        }
        let had_ended = self.continuity.has_ended();
        let (reactions, code) = match envelope.frame {
            Frame::Subscribed(frame) => (self.continuity.subscribed(&frame), None),
            Frame::History(frame) => (self.continuity.history(&frame), None),
            Frame::Batch(frame) => (self.continuity.batch(&frame), None),
            Frame::Gap(frame) => (self.continuity.gap(&frame), None),
            Frame::Continued(frame) => (self.continuity.continued(&frame), None),
            Frame::Unsubscribed(frame) => (self.continuity.ended(), frame.code),
            Frame::Error(ErrorFrame { code, retryable: true, .. }) => {
                let outstanding = self.continuity.outstanding();
                return outstanding.map(|_| json!({"retry": {"code": code}})).into_iter().collect();
            }
            Frame::Error(frame) => (self.continuity.refused(&frame), Some(frame.code)),
            frame => panic!("{frame:?} is not of a channel"),
        };
        let mut effects = self.effects(reactions);
        if self.continuity.has_ended() && !had_ended {
            effects.push(json!({"closed": {"code": code}}));
        }
        effects
    }

    /// The command that is outstanding, as it is sent once connected and again after a retryable error.
    fn ask(&self) -> Vec<Value> {
        match self.continuity.outstanding() {
            Some(Outstanding::Subscribe) => vec![send("subscribe", self.continuity.position())],
            Some(Outstanding::History) => vec![send("history", self.continuity.position())],
            None => Vec::new(),
        }
    }

    fn effects(&self, reactions: Vec<Reaction>) -> Vec<Value> {
        let mut effects: Vec<Value> = Vec::new();
        let mut reactions = reactions.iter().peekable();
        while let Some(reaction) = reactions.next() {
            match reaction {
                Reaction::Deliver(publication) => {
                    let mut deliver = json!(publication);
                    // The vectors give the time only where the frame had one.
                    if publication.time == 0 {
                        deliver.as_object_mut().expect("a publication is an object").remove("time");
                    }
                    if publication.offset.is_some() {
                        deliver["epoch"] =
                            json!(self.continuity.position().expect("offsets have an epoch").epoch);
                    }
                    effects.push(json!({"deliver": deliver}));
                }
                // A gap ends where what is delivered next follows; without that, where the channel stands now.
                Reaction::Gap(reason) => {
                    let mut position = self.continuity.position().cloned();
                    if let (Some(Reaction::Deliver(next)), Some(position)) = (reactions.peek(), &mut position)
                    {
                        position.offset = next.offset.expect("a channel with a position").previous();
                    }
                    effects.push(json!({"gap": {"reason": reason, "position": position}}));
                }
                Reaction::AskHistory(position) => effects.push(send("history", Some(position))),
                Reaction::Resubscribe(position) => {
                    effects.push(send("unsubscribe", None));
                    effects.push(send("subscribe", position.as_ref()));
                }
            }
        }
        effects
    }
}

fn send(command: &str, since: Option<&Position>) -> Value {
    let mut body = json!({"channel": "tickets"});
    if let Some(since) = since {
        body["since"] = json!(since);
    }
    json!({"send": {command: body}})
}

#[test]
fn a_channel_does_what_the_vectors_say() {
    let cases = vectors("continuity.json");
    assert!(cases.len() >= 25, "{} cases", cases.len());
    let failed: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn run(case: &Value) -> Result<(), String> {
    let mut client = Client::new(&case["since"]);
    for (index, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let effects = Value::Array(client.handle(&step["in"]));
        let at = format!("{} step {index}, {}", case["name"], step["in"]);
        if effects != step["out"] {
            return Err(format!("{at}\n  expected {}\n  got      {effects}", step["out"]));
        }
        if step.get("position").is_some_and(|position| *position != client.position()) {
            return Err(format!("{at}\n  expected position {}, got {}", step["position"], client.position()));
        }
    }
    Ok(())
}

#[test]
fn frames_are_read_and_written_as_the_vectors_say() {
    let frames = vectors("frames.json");
    assert!(frames.len() >= 50, "{} frames", frames.len());
    let failed: Vec<String> = frames.iter().filter_map(|vector| check(vector).err()).collect();
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), frames.len(), failed.join("\n"));
}

fn check(vector: &Value) -> Result<(), String> {
    if vector["later"] == true {
        return Ok(());
    }
    let outcome = match (&vector["valid"], &vector["direction"]) {
        (Value::Bool(false), _) => refused(vector),
        (_, Value::String(direction)) if direction == "client" => command_again(&vector["frame"]),
        _ if is_reserved(&vector["frame"]) => Ok(()),
        _ => frame_again(&vector["frame"]),
    };
    outcome.map_err(|what| format!("{}: {what}", vector["name"]))
}

fn refused(vector: &Value) -> Result<(), String> {
    let refused = decode_command(&text_of(vector)).err().ok_or("it is accepted")?;
    let (expected, seen) =
        (json!([vector["error"], vector["error_id"]]), json!([refused.problem.code, refused.id]));
    if expected == seen { Ok(()) } else { Err(format!("expected {expected}, got {seen}")) }
}

/// The message as it is: written out, or as a repetition.
fn text_of(vector: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let repeat = &vector["repeat"];
    match repeat["times"].as_u64() {
        None => text(&vector["text"]),
        Some(times) => {
            text(&repeat["before"]) + &text(&repeat["of"]).repeat(times as usize) + &text(&repeat["after"])
        }
    }
}

/// Reads a command and writes it again; what both mean must be the same.
fn command_again(frame: &Value) -> Result<(), String> {
    let read = |text: &str| decode_command(text).map_err(|refused| format!("{text}: {refused:?}"));
    let (id, command) = read(&frame.to_string())?;
    let written = encode_command(id, &command);
    let again = read(&written)?;
    let same = format!("{again:?}") == format!("{:?}", (id, &command)) && written_has(frame, &written);
    if same { Ok(()) } else { Err(format!("it is written as {written}")) }
}

fn frame_again(frame: &Value) -> Result<(), String> {
    let read =
        |text: &str| decode_frame(text).map_err(|error| error.to_string())?.ok_or("it is ignored".to_owned());
    let envelope = read(&frame.to_string())?;
    let written = String::from_utf8(encode_frame(&envelope)).expect("JSON is UTF-8");
    let again = String::from_utf8(encode_frame(&read(&written)?)).expect("JSON is UTF-8");
    let same = again == written && written_has(frame, &written);
    if same { Ok(()) } else { Err(format!("it is written as {written}")) }
}

/// Whether the specification keeps the frame's name for later (R43): clients ignore such a frame.
fn is_reserved(frame: &Value) -> bool {
    let (_, reserved) = include_str!("../README.md").split_once("**R43.**").expect("the rule is there");
    let name = frame.as_object().and_then(|frame| frame.keys().find(|key| *key != "id")).expect("a name");
    let ignored = decode_frame(&frame.to_string()).is_ok_and(|envelope| envelope.is_none());
    ignored && reserved.contains(&format!("`{name}`"))
}

/// Whether the written text has the same keys at the top: the frame's name, and its id.
fn written_has(frame: &Value, written: &str) -> bool {
    let written: Value = serde_json::from_str(written).expect("what is written is JSON");
    let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    keys(frame) == keys(&written) && frame["id"] == written["id"]
}
