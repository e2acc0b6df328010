//! What requests that write say beside their body.

use std::sync::Arc;

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

impl Options {
    /// As the request has them.
    pub(super) fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Options, Problem> {
        let mut options = Options::default();
        for (option, header) in [
            ("id", "tidings-id"),
            ("key", "tidings-key"),
            ("idempotency_key", "idempotency-key"),
            ("ack", "tidings-ack"),
        ] {
            if let Some(value) = headers.get(header) {
                let value = value.to_str();
                let value = value.map_err(|_| {
                    Problem::new(Code::BadRequest, format!("header {header} is not ASCII text"))
                })?;
                options.set(option, value)?;
            }
        }
        for (option, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            options.set(&option, &value)?;
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
            // Other names belong to later versions, or to whoever is in between.
            _ => {}
        }
        Ok(())
    }
}
