//! What connections and requests ask of mutation logs.

use std::time::Duration;

use tidings_protocol::{Code, LogName, Position, Problem, Tag, WatchGroup};
use tokio::sync::oneshot;

use super::event_loop::NodeCommand;
use super::logs::LogRequest;
use super::{Member, Node};
use crate::hub::Watched;

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
    ) -> Result<(Position, Vec<usize>), Problem> {
        let head = self.position(&log).await?;
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

    /// Asks the log something that it answers.
    async fn ask_log<T>(
        &self,
        log: LogName,
        request: impl FnOnce(oneshot::Sender<T>) -> LogRequest,
    ) -> Result<T, Problem> {
        let (done, answer) = oneshot::channel();
        let request = request(done);
        self.ask(|refused| NodeCommand::Log { log, request, refused }).await??;
        answer.await.map_err(|_| Code::Draining.into())
    }
}

impl Member {
    /// Watches tags of a log; what touches them from then on goes into the mailbox.
    pub async fn watch(
        &mut self,
        log: LogName,
        groups: Vec<WatchGroup>,
        granted: Vec<Tag>,
    ) -> Result<Watched, Problem> {
        self.is_known = true;
        let (session, mailbox) = (self.session, self.mailbox.clone());
        let watch = |done| LogRequest::Watch { session, mailbox, groups, granted, done };
        self.node.ask_log(log, watch).await
    }

    /// Takes watches back.
    pub async fn unwatch(&self, log: LogName, tags: Vec<Tag>) {
        let session = self.session;
        self.node.ask_log(log, |done| LogRequest::Unwatch { session, tags, done }).await.ok();
    }

    /// Takes back what is not granted any more, and says what that was.
    pub async fn narrow(&self, log: LogName, granted: Vec<Tag>) -> Vec<Tag> {
        let session = self.session;
        let narrowed = self.node.ask_log(log, |done| LogRequest::Narrow { session, granted, done });
        narrowed.await.unwrap_or_default()
    }

    /// Has it confirmed, as news, that everything up to now was told.
    pub async fn confirm(&self, logs: Vec<LogName>, ping: u64) {
        for log in logs {
            let (session, mailbox) = (self.session, self.mailbox.clone());
            let request = LogRequest::Confirm { session, mailbox, ping };
            // Without an event loop nothing is confirmed.
            self.node.ask(|refused| NodeCommand::Log { log, request, refused }).await.ok();
        }
    }
}
