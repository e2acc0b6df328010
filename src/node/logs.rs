//! The mutation logs of an instance, run against its broker: what a log needs is asked in tasks, which report; what it has to
//! tell goes into mailboxes.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::{
    Ack, Epoch, LogName, MutateCommand, Position, Publication, Tag, WatchGroup, decode_tags,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::SharedMailbox;
use super::wakes::Wakes;
use crate::broker::{Broker, BrokerError};
use crate::clock::Clock;
use crate::config::{self, Config, FreshConfig};
use crate::freshness::{Allowance, Event, Log, Need, News, Rewrite, Snapshot, Tell, Waiting, has_reached};
use crate::hub::{LogNews, SessionId, Time, Watched};
use crate::limits::Caller;

/// Reports that wait for the event loop; who finds no room waits. A log has at most three tasks out.
const REPORTS_MAX: usize = 256;

/// A spread that is shorter is not worth a word: networks do as much.
const SPREAD_MIN: Duration = Duration::from_millis(20);

/// How logs are held.
#[derive(Clone, Debug)]
pub(super) struct LogRules {
    /// The most logs beside the default one; more only where they are configured.
    pub(super) logs_max: usize,
    /// What each holds.
    pub(super) logs: config::Logs,
    /// The most tags that one session watches in one log.
    pub(super) tags_max: usize,
    /// How long what is touched is gathered.
    pub(super) window: Duration,
    /// How clients spread what they read again.
    pub(super) fresh: FreshConfig,
}

impl LogRules {
    /// As the configuration says.
    pub(super) fn new(config: &Config) -> Self {
        LogRules {
            logs_max: config.limits.logs_max,
            logs: config.logs.clone(),
            tags_max: config.limits.tags_per_connection,
            window: config.namespaces.of("").batch_window,
            fresh: config.fresh.clone(),
        }
    }
}

/// What is asked of a log.
pub(super) enum LogRequest {
    /// Watch for a session.
    Watch {
        session: SessionId,
        mailbox: Arc<SharedMailbox>,
        groups: Vec<WatchGroup>,
        granted: Vec<Tag>,
        done: oneshot::Sender<Watched>,
    },
    /// Take watches back.
    Unwatch { session: SessionId, tags: Vec<Tag>, escalated: Vec<Tag>, done: oneshot::Sender<()> },
    /// Take back what is not granted, and say what that was.
    Narrow { session: SessionId, granted: Vec<Tag>, done: oneshot::Sender<Vec<Tag>> },
    /// Tell the session once everything up to now was told.
    Confirm { session: SessionId, mailbox: Arc<SharedMailbox>, ping: u64 },
    /// Which of the items were touched since, as of a position or later.
    Check { items: Vec<WatchGroup>, until: Position, done: oneshot::Sender<(Position, Vec<usize>)> },
}

/// When a request can be answered.
enum When {
    Now,
    /// Once anything is known of the log.
    Known {
        session: SessionId,
        tags: usize,
    },
    /// Once the log has reached a position.
    Reached {
        until: Position,
        tags: usize,
    },
}

impl LogRequest {
    /// When it can be answered by a log that stands there, as far as is known.
    fn when(&self, at: Option<&Position>) -> When {
        let count = |groups: &[WatchGroup]| groups.iter().map(|group| group.tags.len()).sum();
        match self {
            LogRequest::Watch { session, groups, .. } if at.is_none() => {
                When::Known { session: *session, tags: count(groups) }
            }
            LogRequest::Check { items, until, .. } if at.is_none_or(|at| !has_reached(at, until)) => {
                When::Reached { until: until.clone(), tags: count(items) }
            }
            LogRequest::Watch { .. }
            | LogRequest::Unwatch { .. }
            | LogRequest::Narrow { .. }
            | LogRequest::Confirm { .. }
            | LogRequest::Check { .. } => When::Now,
        }
    }

    /// Whether somebody waits for the answer.
    fn is_wanted(&self) -> bool {
        match self {
            LogRequest::Watch { done, .. } => !done.is_closed(),
            LogRequest::Unwatch { done, .. } => !done.is_closed(),
            LogRequest::Narrow { done, .. } => !done.is_closed(),
            LogRequest::Check { done, .. } => !done.is_closed(),
            LogRequest::Confirm { .. } => true,
        }
    }
}

/// What a task has done for a log.
pub(super) struct Report {
    log: LogName,
    outcome: Outcome,
}

enum Outcome {
    Snapshot(Result<Snapshot, BrokerError>),
    Confirmed(u64, Result<Position, BrokerError>),
    Rewritten(Result<Position, BrokerError>),
}

pub(super) struct Logs {
    logs: IndexMap<LogName, Held>,
    broker: Arc<dyn Broker>,
    rules: LogRules,
    clock: Clock,
    reporter: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

struct Held {
    log: Log<Arc<SharedMailbox>>,
    /// Whether mutations are announced here: before that nothing is asked of the log.
    is_listening: bool,
    /// Requests that came before enough was known of the log.
    waiting: Waiting<LogRequest>,
}

impl Logs {
    pub(super) fn new(broker: Arc<dyn Broker>, rules: LogRules, clock: Clock) -> Self {
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        Logs { logs: IndexMap::new(), broker, rules, clock, reporter, reports }
    }

    /// The next report; to be handed to [`Logs::handle_report`].
    pub(super) async fn report(&mut self) -> Report {
        self.reports.recv().await.expect("a sender is kept here")
    }

    /// When [`Logs::handle_timeout`] has something to do.
    pub(super) fn next_due(&self) -> Option<Time> {
        let listening = self.logs.values().filter(|held| held.is_listening);
        listening.filter_map(|held| held.log.poll_timeout()).min()
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        for index in 0..self.logs.len() {
            self.logs[index].log.handle_timeout(now);
            self.pursue(index);
        }
    }

    /// Somebody asks something of a log, which was admitted, and is held from then on. Where too many wait, nobody answers.
    pub(super) fn handle_request(&mut self, name: &LogName, request: LogRequest) {
        let index = self.index_of(name);
        let Held { log, waiting, .. } = &mut self.logs[index];
        waiting.retain(LogRequest::is_wanted);
        let waits = match request.when(log.position().as_ref()) {
            When::Now => Err(request),
            When::Known { session, tags } => Ok(waiting.wait(session, tags, request)),
            When::Reached { until, tags } => Ok(waiting.wait_until(until, tags, request)),
        };
        match waits {
            Err(request) => self.answer(index, request),
            Ok(Ok(())) => {}
            Ok(Err(_)) => warn!(log = %name, "too many wait until enough is known of the mutation log"),
        }
        self.pursue(index);
    }

    /// This instance is about to tell somebody that a mutation is written.
    pub(super) fn handle_acknowledged(&mut self, name: &LogName, position: &Position, tags: Arc<[Tag]>) {
        let index = self.index_of(name);
        self.logs[index].log.handle_acknowledged(position, tags);
    }

    fn index_of(&mut self, name: &LogName) -> usize {
        if let Some(index) = self.logs.get_index_of(name) {
            return index;
        }
        let log = Log::new(self.rules.logs.of(name).events);
        // The log's mutations are announced here, for good, however long it takes until they are.
        let is_listening = self.broker.set_interest(&name.channel(), true).is_none();
        let held = Held { log, is_listening, waiting: Waiting::default() };
        self.logs.insert_full(name.clone(), held).0
    }

    /// The log's mutations are announced here from now on.
    pub(super) fn handle_listening(&mut self, name: &LogName) {
        if let Some(index) = self.logs.get_index_of(name) {
            self.logs[index].is_listening = true;
            self.pursue(index);
        }
    }

    fn answer(&mut self, index: usize, request: LogRequest) {
        let tags_max = self.rules.tags_max;
        let log = &mut self.logs[index].log;
        // Whoever asked may be gone by now; then nobody needs the answer.
        match request {
            LogRequest::Watch { session, mailbox, groups, granted, done } => {
                let allowance = Allowance { granted: &granted, tags_max };
                if let Some(mut watched) = log.watch(session, &mailbox, &groups, allowance) {
                    watched.spread_ms = spread_ms(&self.rules.fresh, watched.watchers);
                    done.send(watched).ok();
                }
            }
            LogRequest::Unwatch { session, tags, escalated, done } => {
                log.unwatch(session, &tags, &escalated);
                done.send(()).ok();
            }
            LogRequest::Narrow { session, granted, done } => {
                done.send(log.narrow(session, &granted)).ok();
            }
            LogRequest::Confirm { session, mailbox, ping } => log.handle_ping(session, mailbox, ping),
            LogRequest::Check { items, until: _, done } => {
                let Some(at) = log.position() else { return };
                let is_stale = |item: &WatchGroup| log.is_stale(item).unwrap_or(true);
                let stale = items.iter().enumerate().filter(|(_, item)| is_stale(item));
                done.send((at, stale.map(|(index, _)| index).collect())).ok();
            }
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        for held in self.logs.values_mut() {
            held.log.forget(session);
            held.waiting.forget(session);
        }
    }

    /// A mutation was announced.
    pub(super) fn handle_publication(
        &mut self,
        name: &LogName,
        epoch: Option<Epoch>,
        publication: &Publication,
        wakes: &mut Wakes,
    ) {
        let Some(index) = self.logs.get_index_of(name) else { return };
        let event = epoch.zip(publication.offset).zip(decode_tags(&publication.payload));
        let Some(((epoch, offset), tags)) = event else {
            warn!(log = %name, "a mutation cannot be read");
            return self.handle_lost(name);
        };
        let event = Event { offset, tags: tags.into(), key: publication.id.clone() };
        self.with(index, wakes, |log, tell| {
            log.handle_event(epoch, event, tell);
        });
        self.answer_waiting(index);
        self.pursue(index);
    }

    /// Announcements of the log may be lost.
    pub(super) fn handle_lost(&mut self, name: &LogName) {
        if let Some(index) = self.logs.get_index_of(name) {
            self.logs[index].log.handle_lost();
            self.pursue(index);
        }
    }

    /// A task has done something.
    pub(super) fn handle_report(&mut self, report: Report, wakes: &mut Wakes) {
        let Some(index) = self.logs.get_index_of(&report.log) else { return };
        let now = self.clock.now();
        let failed = |what| move |error: BrokerError| debug!(%error, "{what}");
        match report.outcome {
            Outcome::Snapshot(snapshot) => {
                let snapshot = snapshot.map_err(failed("no snapshot of the mutation log"));
                self.with(index, wakes, |log, tell| log.handle_snapshot(snapshot, now, tell));
                self.answer_waiting(index);
            }
            Outcome::Confirmed(ticket, head) => {
                let head = head.map_err(failed("the mutation log does not say where it stands"));
                self.with(index, wakes, |log, tell| log.handle_confirmed(ticket, head, now, tell));
            }
            Outcome::Rewritten(outcome) => {
                let outcome = outcome.map_err(failed("a lost mutation cannot be written again yet"));
                self.logs[index].log.handle_rewritten(outcome, now);
            }
        }
        self.pursue(index);
    }

    fn answer_waiting(&mut self, index: usize) {
        let Held { log, waiting, .. } = &mut self.logs[index];
        let Some(at) = log.position() else { return };
        for request in waiting.take_ready(&at) {
            self.answer(index, request);
        }
    }

    /// Lets the log do something, and puts what it has to tell into mailboxes.
    fn with(
        &mut self,
        index: usize,
        wakes: &mut Wakes,
        act: impl FnOnce(&mut Log<Arc<SharedMailbox>>, Tell<'_, Arc<SharedMailbox>>),
    ) {
        let now = self.clock.now();
        let until = now.window_end(self.rules.window);
        let fresh = &self.rules.fresh;
        let Some((name, held)) = self.logs.get_index_mut(index) else { return };
        act(&mut held.log, &mut |mailbox, at, news| {
            let tell = |inside: &mut LogNews| {
                if let News::Touched { watchers, .. } | News::Reset { watchers } = news {
                    inside.spread_ms = inside.spread_ms.max(spread_ms(fresh, watchers));
                }
                news.put_into(inside);
            };
            let wake = mailbox.with(|inside| inside.tell(name, at, until, now, tell));
            wakes.note(mailbox, wake);
        });
    }

    /// Has done what the log needs.
    fn pursue(&mut self, index: usize) {
        let now = self.clock.now();
        let Some((name, held)) = self.logs.get_index_mut(index).filter(|(_, held)| held.is_listening) else {
            return;
        };
        while let Some(need) = held.log.poll_need(now) {
            let (log, broker, reporter) = (name.clone(), self.broker.clone(), self.reporter.clone());
            tokio::spawn(async move {
                let outcome = match need {
                    Need::Snapshot => Outcome::Snapshot(broker.snapshot(&log).await),
                    Need::Confirm(ticket) => Outcome::Confirmed(ticket, broker.confirm(&log).await),
                    Need::Write(rewrite) => {
                        warn!(%log, tags = rewrite.tags.len(), "the log has lost a mutation: it is written again");
                        Outcome::Rewritten(write_again(&*broker, &log, &rewrite).await)
                    }
                };
                // Without an event loop there is no log.
                reporter.send(Report { log, outcome }).await.ok();
            });
        }
    }
}

async fn write_again(broker: &dyn Broker, log: &LogName, rewrite: &Rewrite) -> Result<Position, BrokerError> {
    let command = MutateCommand {
        log: log.clone(),
        tags: rewrite.tags.to_vec(),
        idempotency_key: Some(rewrite.key.clone()),
        said: rewrite.key.clone(),
        ack: Ack::Stored,
    };
    broker.mutate(command, Caller::default()).await?.position.ok_or(BrokerError::Unavailable)
}

/// Over how long so many clients should spread what they read again.
fn spread_ms(fresh: &FreshConfig, watchers: usize) -> u64 {
    let spread = Duration::from_secs_f64(watchers as f64 / fresh.refetch_rate as f64);
    match spread < SPREAD_MIN {
        true => 0,
        false => spread.min(fresh.refetch_spread_max).as_millis() as u64,
    }
}
