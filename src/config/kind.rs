//! How a value of each type is read, shown and measured.
//!
//! A kind is usually the type itself; where one type is written in several ways (a number of things, a number of bytes) a
//! marker says which. Which keys exist is said by the sections.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;

use super::raw::{Raw, Span, Value};
use super::suggest;

/// What a key takes.
pub(crate) trait Kind {
    type Value;

    /// Completes "expected …".
    const EXPECTED: &'static str;
    /// An example in TOML, for keys without a default.
    const EXAMPLE: &'static str = "\"\"";
    /// How text from the environment or a flag becomes a value.
    const FORM: Form = Form::Toml;
    /// Never shown in problems.
    const SENSITIVE: bool = false;
    /// Never shown at all, and may be given as `NAME_file`.
    const SECRET: bool = false;

    fn parse(raw: &Raw) -> Result<Self::Value, Fault>;

    /// The value in TOML, or `None` where it is absent.
    fn show(value: &Self::Value) -> Option<String>;

    /// The value where nobody wrote one and no default exists; `None` if the key must be written.
    fn absent() -> Option<Self::Value> {
        None
    }

    /// Size of the value, for ranges; `None` where values have no order.
    fn measure(_value: &Self::Value) -> Option<u128> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// TOML if it parses, else a string: `5`, `true`, `25s`.
    Toml,
    /// A string, be it that it looks like a number; quotes are taken off.
    Text,
    /// A TOML list, else strings between commas.
    List,
}

/// Why a value is refused.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Faults of further elements of a list.
    pub(crate) more: Vec<Fault>,
}

impl Fault {
    pub(crate) fn new(raw: &Raw, message: impl Into<String>) -> Fault {
        Fault { span: raw.span.clone(), message: message.into(), hint: None, more: Vec::new() }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

/// The refusal of a value of another type, which says what was seen unless it is sensitive.
pub(crate) fn unexpected<K: Kind>(raw: &Raw) -> Fault {
    let saw = if K::SENSITIVE { String::new() } else { format!(", saw {}", raw.describe()) };
    Fault::new(raw, format!("expected {}{saw}", K::EXPECTED))
}

/// The value's text, or the refusal.
pub(crate) fn text<K: Kind>(raw: &Raw) -> Result<&str, Fault> {
    match &raw.value {
        Value::Text(text) => Ok(text),
        _ => Err(unexpected::<K>(raw)),
    }
}

/// `text` as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A number of things.
pub(crate) struct Count;

impl Kind for Count {
    type Value = usize;
    const EXPECTED: &'static str = "a whole number such as 1_000";

    fn parse(raw: &Raw) -> Result<usize, Fault> {
        match raw.value {
            Value::Integer(number) => usize::try_from(number).map_err(|_| unexpected::<Count>(raw)),
            _ => Err(unexpected::<Count>(raw)),
        }
    }

    fn show(count: &usize) -> Option<String> {
        Some(grouped(*count))
    }

    fn measure(count: &usize) -> Option<u128> {
        Some(*count as u128)
    }
}

/// `1234567` as `1_234_567`, which TOML and Rust read alike.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of bytes.
pub(crate) struct Size;

impl Kind for Size {
    type Value = usize;
    const EXPECTED: &'static str = "a size such as \"1MiB\", or a number of bytes";

    fn parse(raw: &Raw) -> Result<usize, Fault> {
        let bytes = match &raw.value {
            Value::Text(text) => text.parse().ok().map(|ByteSize(bytes)| bytes),
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => None,
        };
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| unexpected::<Size>(raw))
    }

    fn show(bytes: &usize) -> Option<String> {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let whole = units.iter().find(|(_, unit)| *bytes > 0 && bytes.is_multiple_of(*unit));
        Some(whole.map_or_else(|| grouped(*bytes), |(name, unit)| format!("\"{}{name}\"", bytes / unit)))
    }

    fn measure(bytes: &usize) -> Option<u128> {
        Some(*bytes as u128)
    }
}

impl Kind for Duration {
    type Value = Duration;
    const EXPECTED: &'static str = "a duration such as \"25s\"";

    fn parse(raw: &Raw) -> Result<Duration, Fault> {
        if let Value::Integer(number) = raw.value {
            return Err(unexpected::<Duration>(raw)
                .with_hint(format!("write the unit: \"{number}s\" or \"{number}ms\"")));
        }
        humantime::parse_duration(text::<Duration>(raw)?).map_err(|_| unexpected::<Duration>(raw))
    }

    fn show(duration: &Duration) -> Option<String> {
        Some(quoted(&humantime::format_duration(*duration).to_string()))
    }

    fn measure(duration: &Duration) -> Option<u128> {
        Some(duration.as_nanos())
    }
}

impl Kind for bool {
    type Value = bool;
    const EXPECTED: &'static str = "true or false";

    fn parse(raw: &Raw) -> Result<bool, Fault> {
        match raw.value {
            Value::Flag(flag) => Ok(flag),
            _ => Err(unexpected::<bool>(raw)),
        }
    }

    fn show(flag: &bool) -> Option<String> {
        Some(flag.to_string())
    }
}

impl Kind for String {
    type Value = String;
    const EXPECTED: &'static str = "a string";
    const EXAMPLE: &'static str = "\"some text\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        match text::<String>(raw)? {
            "" => Err(Fault::new(raw, "expected a string that is not empty")),
            text => Ok(text.to_owned()),
        }
    }

    fn show(text: &String) -> Option<String> {
        Some(quoted(text))
    }
}

impl Kind for SocketAddr {
    type Value = SocketAddr;
    const EXPECTED: &'static str = "an IP address and port such as \"127.0.0.1:8080\" or \"[::]:8080\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<SocketAddr, Fault> {
        text::<SocketAddr>(raw)?.parse().map_err(|_| unexpected::<SocketAddr>(raw))
    }

    fn show(address: &SocketAddr) -> Option<String> {
        Some(quoted(&address.to_string()))
    }
}

impl<K: Kind> Kind for Option<K> {
    type Value = Option<K::Value>;
    const EXPECTED: &'static str = K::EXPECTED;
    const EXAMPLE: &'static str = K::EXAMPLE;
    const FORM: Form = K::FORM;
    const SENSITIVE: bool = K::SENSITIVE;
    const SECRET: bool = K::SECRET;

    fn parse(raw: &Raw) -> Result<Self::Value, Fault> {
        K::parse(raw).map(Some)
    }

    fn show(value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(K::show)
    }

    fn absent() -> Option<Self::Value> {
        Some(None)
    }
}

impl<K: Kind> Kind for Vec<K> {
    type Value = Vec<K::Value>;
    const EXPECTED: &'static str = "a list of strings such as [\"a\", \"b\"]";
    const EXAMPLE: &'static str = "[]";
    const FORM: Form = Form::List;

    fn parse(raw: &Raw) -> Result<Self::Value, Fault> {
        let Value::List(list) = &raw.value else { return Err(unexpected::<Self>(raw)) };
        let mut values = Vec::with_capacity(list.len());
        let mut faults = Vec::new();
        for raw in list {
            match K::parse(raw) {
                Ok(value) => values.push(value),
                Err(fault) => faults.push(fault),
            }
        }
        match faults.is_empty() {
            true => Ok(values),
            false => Err(Fault { more: faults.split_off(1), ..faults.remove(0) }),
        }
    }

    fn show(values: &Self::Value) -> Option<String> {
        Some(format!("[{}]", values.iter().filter_map(K::show).collect::<Vec<_>>().join(", ")))
    }
}

/// A choice among words: implement this, and the word list does the rest.
pub(crate) trait Words: Copy + PartialEq + 'static {
    const EXPECTED: &'static str;
    /// An example in TOML, for keys without a default.
    const EXAMPLE: &'static str = "\"\"";
    const WORDS: &'static [(&'static str, Self)];
}

impl<W: Words> Kind for W {
    type Value = W;
    const EXPECTED: &'static str = W::EXPECTED;
    const EXAMPLE: &'static str = W::EXAMPLE;
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<W, Fault> {
        let text = text::<W>(raw)?;
        let known = W::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, choice)| *choice).ok_or_else(|| {
            let near = suggest::nearest(text, W::WORDS.iter().map(|(word, _)| *word));
            let mut fault = unexpected::<W>(raw);
            fault.hint = near.map(|word| format!("did you mean {word:?}?"));
            fault
        })
    }

    fn show(choice: &W) -> Option<String> {
        W::WORDS.iter().find(|(_, known)| known == choice).map(|(word, _)| quoted(word))
    }
}
