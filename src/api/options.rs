//! What requests say beside their body.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Uri;
use axum::http::header::HeaderMap;
use tidings_protocol::{Ack, Code, Problem, PublishCommand};

/// What a request says beside its body: in the query, or in headers. The query counts where both say something.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) id: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) idempotency_key: Option<Arc<str>>,
    pub(super) ack: Option<Ack>,
    pub(super) ns: Option<String>,
}

/// Options that have a header, and its name.
const HEADERS: [(&str, &str); 4] = [
    ("id", "tidings-id"),
    ("key", "tidings-key"),
    ("idempotency_key", "idempotency-key"),
    ("ack", "tidings-ack"),
];

impl Options {
    /// Those of a publish.
    pub(super) fn of_publish(request: &Request) -> Result<Options, Problem> {
        Options::read(request.uri(), request.headers(), &["id", "key", "idempotency_key", "ack"])
    }

    /// Those of many publishes, each of which has its own id and key.
    pub(super) fn of_batch(request: &Request) -> Result<Options, Problem> {
        Options::read(request.uri(), request.headers(), &["idempotency_key", "ack"])
    }

    /// Those of what writes to a mutation log.
    pub(super) fn of_mutation(request: &Request) -> Result<Options, Problem> {
        Options::read(request.uri(), request.headers(), &["idempotency_key", "ack", "ns"])
    }

    /// Those of what asks a mutation log.
    pub(super) fn of_question(uri: &Uri, headers: &HeaderMap) -> Result<Options, Problem> {
        Options::read(uri, headers, &["ns"])
    }

    /// The options with these names. Any other one is refused: whoever writes it relies on something that does not happen.
    fn read(uri: &Uri, headers: &HeaderMap, names: &[&str]) -> Result<Options, Problem> {
        let mut options = Options::default();
        for (option, header) in HEADERS.iter().filter(|(option, _)| names.contains(option)) {
            if let Some(value) = headers.get(*header) {
                let value = value.to_str();
                let value = value.map_err(|_| {
                    Problem::new(Code::BadRequest, format!("header {header} is not ASCII text"))
                })?;
                options.set(option, value)?;
            }
        }
        for (option, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match names.contains(&&*option) {
                true => options.set(&option, &value)?,
                false => {
                    let shown: String = option.chars().take(60).collect();
                    let message = format!("there is no option {shown:?} here, but {}", names.join(", "));
                    return Err(Problem::new(Code::BadRequest, message));
                }
            }
        }
        Ok(options)
    }

    /// The command with what it does not say of itself. An acknowledgement it always names, so here the request overrides it.
    pub(super) fn applied_to(&self, command: PublishCommand) -> PublishCommand {
        let Options { id, key, idempotency_key, ack, .. } = self.clone();
        PublishCommand {
            id: command.id.or(id),
            key: command.key.or(key),
            idempotency_key: command.idempotency_key.or(idempotency_key),
            ack: ack.unwrap_or(command.ack),
            ..command
        }
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), Problem> {
        match option {
            "id" => self.id = Some(value.into()),
            "key" => self.key = Some(value.into()),
            "idempotency_key" => self.idempotency_key = Some(value.into()),
            "ns" => self.ns = Some(value.to_owned()),
            "ack" => {
                self.ack = match value {
                    "none" => Some(Ack::None),
                    "stored" => Some(Ack::Stored),
                    "replicated" => Some(Ack::Replicated),
                    _ => {
                        let message = format!("ack is none, stored or replicated, not {value:?}");
                        return Err(Problem::new(Code::BadRequest, message));
                    }
                }
            }
            // `read` knows the names.
            _ => {}
        }
        Ok(())
    }
}
