//! What connections and requests ask of mutation logs.

use std::time::Duration;

use tidings_protocol::{Code, LogName, Offset, Position, Problem, Tag, WatchGroup};
use tokio::sync::oneshot;

use super::event_loop::NodeCommand;
use super::log_names::Place;
use super::logs::LogRequest;
use super::{Member, Node};
use crate::hub::Watched;
use crate::limits::Caller;

/// How long a check waits for mutations that are on their way here: what an outage may take (P10).
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it waits each time.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

impl Node {
    /// Which of the items had a tag touched after their `since`, by their indices, and as of where: with every mutation that
    /// was acknowledged before, however far behind this instance is.
    pub async fn check(
        &self,
        log: LogName,
        items: Vec<WatchGroup>,
        caller: &Caller,
    ) -> Result<(Position, Vec<usize>), Problem> {
        let (place, head) = self.find_log(&log, caller).await?;
        if place == Place::New {
            // Nothing was ever touched there; what was read under another numbering may have been.
            let is_stale = |item: &WatchGroup| item.since.as_ref() != Some(&head);
            let stale = items.iter().enumerate().filter(|(_, item)| is_stale(item));
            let stale = stale.map(|(index, _)| index).collect();
            return Ok((head, stale));
        }
        let until = self.clock.now().after(CHECK_TIMEOUT);
        loop {
            let items = items.clone();
            let (at, stale) = self.ask_log(log.clone(), |done| LogRequest::Check { items, done }).await?;
            // Another numbering than the head's is the one that ends, or one that began since.
            if at.epoch == head.epoch && at.offset >= head.offset {
                return Ok((at, stale));
            }
            if self.clock.now() >= until {
                let message = "this instance has not heard of the log's last mutations in time: ask again";
                return Err(Problem::new(Code::BrokerUnavailable, message));
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    }

    /// Where the log stands, with every mutation that was acknowledged before, for somebody who only reads. A log that nobody
    /// has written to stays [`Place::New`]: whoever asks for it makes none.
    async fn find_log(&self, log: &LogName, caller: &Caller) -> Result<(Place, Position), Problem> {
        let head = self.broker.confirm(log).await?;
        let is_known = self.log_names.knows(log);
        if !is_known && head.offset == Offset(0) {
            return Ok((Place::New, head));
        }
        if !is_known {
            // Written elsewhere, by somebody who may.
            self.log_names.admit(log, caller)?;
        }
        Ok((Place::Known, head))
    }

    /// Where the log stands, with every mutation that was acknowledged before.
    pub async fn position(&self, log: &LogName, caller: &Caller) -> Result<Position, Problem> {
        Ok(self.find_log(log, caller).await?.1)
    }

    /// Asks the log something that it answers.
    async fn ask_log<T>(
        &self,
        log: LogName,
        request: impl FnOnce(oneshot::Sender<T>) -> LogRequest,
    ) -> Result<T, Problem> {
        let (done, answer) = oneshot::channel();
        let request = request(done);
        self.ask(|taken| NodeCommand::Log { log, request, taken }).await?;
        answer.await.map_err(|_| Code::Draining.into())
    }
}

impl Member {
    /// Watches tags of a log; what touches them from then on goes into the mailbox. A log that nobody has written to is
    /// there for those alone who may watch something.
    pub async fn watch(
        &mut self,
        log: LogName,
        groups: Vec<WatchGroup>,
        granted: Vec<Tag>,
        caller: &Caller,
    ) -> Result<Watched, Problem> {
        if !self.node.log_names.knows(&log) && self.node.find_log(&log, caller).await?.0 == Place::New {
            if granted.is_empty() {
                return Err(Problem::new(Code::TagNotAllowed, "the credential allows to watch nothing"));
            }
            self.node.log_names.admit_awaited(&log, caller)?;
        }
        self.is_known = true;
        let (session, mailbox) = (self.session, self.mailbox.clone());
        let watch = |done| LogRequest::Watch { session, mailbox, groups, granted, done };
        self.node.ask_log(log, watch).await
    }

    /// Takes watches back.
    pub async fn unwatch(&self, log: LogName, tags: Vec<Tag>) {
        if !self.node.log_names.knows(&log) {
            return;
        }
        let session = self.session;
        self.node.ask_log(log, |done| LogRequest::Unwatch { session, tags, done }).await.ok();
    }

    /// Takes back what is not granted any more, and says what that was.
    pub async fn narrow(&self, log: LogName, granted: Vec<Tag>) -> Vec<Tag> {
        if !self.node.log_names.knows(&log) {
            return Vec::new();
        }
        let session = self.session;
        let narrowed = self.node.ask_log(log, |done| LogRequest::Narrow { session, granted, done });
        narrowed.await.unwrap_or_default()
    }

    /// Has it confirmed, as news, that everything up to now was told.
    pub async fn confirm(&self, logs: Vec<LogName>, ping: u64) {
        for log in logs.into_iter().filter(|log| self.node.log_names.knows(log)) {
            let (session, mailbox) = (self.session, self.mailbox.clone());
            let request = LogRequest::Confirm { session, mailbox, ping };
            // Without an event loop nothing is confirmed.
            self.node.ask(|taken| NodeCommand::Log { log, request, taken }).await.ok();
        }
    }
}
