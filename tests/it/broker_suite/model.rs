//! The simulation's model of Redis, with an instance over it, as the rows use a broker.

use std::collections::BTreeMap;

use tidings::broker::{BrokerError, BrokerEvent};
use tidings::config::Namespaces;
use tidings::freshness::Snapshot;
use tidings::hub::{Page, PageLimit, Published, Retention};
use tidings_protocol::{Ack, Channel, MutateCommand, Position};

use super::logs;
use super::reading::ALL;
use super::subject::{Subject, command, named};
use crate::simulation::{Alone, Bug};
use crate::support::config;

/// The instance, which nothing happens to but what a row asks for.
pub(super) struct ModelSubject {
    pub(super) alone: Alone,
    namespaces: Namespaces,
}

impl ModelSubject {
    pub(super) fn new(toml: &str) -> ModelSubject {
        ModelSubject::with_bug(toml, 0, None)
    }

    pub(super) fn with_bug(toml: &str, seed: u64, bug: Option<Bug>) -> ModelSubject {
        ModelSubject { alone: Alone::new(seed, bug), namespaces: config(toml, true).namespaces }
    }

    /// The channel, which is in the model's world from now on.
    fn channel(&mut self, name: &str) -> Channel {
        let channel = named(name);
        self.add(&channel);
        channel
    }

    /// The log's channel, likewise.
    fn log(&mut self, name: &str) -> Channel {
        let channel = logs::log(name).channel();
        self.add(&channel);
        channel
    }

    fn add(&mut self, channel: &Channel) {
        let namespace = self.namespaces.of(channel.as_str());
        let retention = Retention {
            publications_max: namespace.history_size,
            bytes_max: namespace.history_bytes,
            age_max: namespace.history_age,
        };
        self.alone.add(channel, retention);
    }
}

impl Subject for ModelSubject {
    async fn publish(
        &mut self,
        channel: &str,
        text: &str,
        key: Option<&str>,
        ack: Ack,
    ) -> Result<Published, BrokerError> {
        self.channel(channel);
        self.alone.publish(command(channel, text, key, ack))
    }

    async fn history(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        let channel = self.channel(channel);
        self.alone.history(&channel, since, limit).expect("history can be read")
    }

    async fn resume(&mut self, channel: &str, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        let channel = self.channel(channel);
        self.alone.resume(&channel, since, limit).expect("history can be read")
    }

    async fn read(&mut self, channel: &Channel, since: Option<&Position>) -> Page {
        self.add(channel);
        let page = self.alone.history(channel, since, ALL).expect("history can be read");
        page.expect("it has positions")
    }

    async fn resume_log(&mut self, log: &str, since: &Position) -> Page {
        let channel = self.log(log);
        let page = self.alone.resume(&channel, Some(since), ALL).expect("history can be read");
        page.expect("it has positions")
    }

    async fn listen_to(&mut self, channel: &Channel) {
        self.add(channel);
        self.alone.listen(channel);
    }

    async fn unlisten_to(&mut self, channel: &Channel) {
        self.alone.unlisten(channel);
    }

    async fn mutate(&mut self, command: MutateCommand) -> Result<Published, BrokerError> {
        self.add(&command.log.channel());
        self.alone.mutate(&command)
    }

    async fn snapshot(&mut self, log: &str) -> Result<Snapshot, BrokerError> {
        let log = self.log(log);
        self.alone.snapshot(&log)
    }

    async fn confirm(&mut self, log: &str) -> Result<Position, BrokerError> {
        let log = self.log(log);
        self.alone.confirm(&log)
    }

    async fn heard(&mut self) -> BrokerEvent {
        self.alone.heard()
    }

    async fn channels(&mut self) -> BTreeMap<String, Position> {
        let channels = self.alone.channels().filter(|(channel, _)| !channel.is_log());
        channels.map(|(channel, head)| (channel.to_string(), head)).collect()
    }

    async fn announced(&mut self) -> Vec<String> {
        self.alone.announced().map(Channel::to_string).collect()
    }

    async fn forget_everything(&mut self) {
        self.alone.forget_everything();
    }
}
