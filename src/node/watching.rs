//! What connections and requests ask of mutation logs.

use tidings_protocol::{LogName, Position, Problem, Tag, WatchGroup};
use tokio::sync::oneshot;

use super::event_loop::NodeCommand;
use super::logs::LogRequest;
use super::{Member, Node};
use crate::hub::Watched;

impl Node {
    /// Which of the items had a tag touched after their `since`, by their indices, and as of where.
    pub async fn check(
        &self,
        log: LogName,
        items: Vec<WatchGroup>,
    ) -> Result<(Position, Vec<usize>), Problem> {
        self.ask_log(log, |done| LogRequest::Check { items, done }).await
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
        answer.await.map_err(|_| tidings_protocol::Code::Draining.into())
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
        self.watches = true;
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
