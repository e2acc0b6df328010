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

/// Tags that are looked up at once, on the event loop: everything else waits for 0.3 ms.
const TAGS_AT_ONCE: usize = 1_024;

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
        let late = |_| {
            let message = "this instance has not heard of the log's last mutations in time: ask again";
            Problem::new(Code::BrokerUnavailable, message)
        };
        let parts = self.check_parts(&log, items, &head);
        tokio::time::timeout(CHECK_TIMEOUT, parts).await.map_err(late)?
    }

    /// Asks for some of the items after the others, so that nobody else waits for long.
    async fn check_parts(
        &self,
        log: &LogName,
        items: Vec<WatchGroup>,
        head: &Position,
    ) -> Result<(Position, Vec<usize>), Problem> {
        let mut checked = None;
        for (begin, items) in parts(items) {
            let until = head.clone();
            let part = |done| LogRequest::Check { items, until, done };
            let (at, found) = self.ask_log(log.clone(), part).await?;
            // All is true as of the first answer; later ones are of the same numbering, which is the head's.
            let (_, stale) = checked.get_or_insert_with(|| (at, Vec::new()));
            stale.extend(found.into_iter().map(|index| begin + index));
        }
        Ok(checked.expect("there is one part at least"))
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
        let unanswered = |_| {
            let message = "this instance cannot say yet what it knows of the mutation log: ask again";
            Problem::new(Code::BrokerUnavailable, message)
        };
        answer.await.map_err(unanswered)
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

    /// Takes watches back, and subtrees that were watched in the place of tags.
    pub async fn unwatch(&self, log: LogName, tags: Vec<Tag>, escalated: Vec<Tag>) {
        if !self.node.log_names.knows(&log) {
            return;
        }
        let session = self.session;
        let unwatch = |done| LogRequest::Unwatch { session, tags, escalated, done };
        self.node.ask_log(log, unwatch).await.ok();
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

/// The items in parts of so many tags, each with the index of its first: one at least, and an item more than fits.
fn parts(items: Vec<WatchGroup>) -> Vec<(usize, Vec<WatchGroup>)> {
    let mut parts = vec![(0, Vec::new())];
    let mut tags = 0;
    for (index, item) in items.into_iter().enumerate() {
        if tags >= TAGS_AT_ONCE {
            parts.push((index, Vec::new()));
            tags = 0;
        }
        tags += item.tags.len().max(1);
        parts.last_mut().expect("there is one part at least").1.push(item);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_many_tags_is_cut_into_parts_that_keep_the_numbers_of_its_items() {
        let item = |tags: usize| WatchGroup { since: None, except: None, tags: vec![Tag::all(); tags] };
        let cut = |items: &[usize]| -> Vec<(usize, usize)> {
            let parts = parts(items.iter().map(|tags| item(*tags)).collect());
            parts.into_iter().map(|(begin, items)| (begin, items.len())).collect()
        };
        assert_eq!(cut(&[]), [(0, 0)]);
        assert_eq!(cut(&[64; 10]), [(0, 10)]);
        assert_eq!(cut(&[64; 40]), [(0, 16), (16, 16), (32, 8)]);
        assert_eq!(cut(&[0; 2_000]), [(0, 1_024), (1_024, 976)]);
    }
}
