//! How a session turns commands into actions: what is allowed, what is within the limits, and what must be asked.

use indexmap::map::Entry;
use tidings_protocol::{
    Channel, Code, Command, Frame, HistoryCommand, Problem, PublishCommand, SubscribeCommand,
    UnsubscribedFrame,
};

use super::{Asked, CatchUp, Session, State};
use crate::hub::subscription::Subscription;
use crate::hub::{Action, Credential, PageLimit};

impl Session {
    /// Turns a command into an action, or refuses it.
    pub(super) fn begin(&mut self, id: Option<u64>, command: Command) -> Result<Action, Problem> {
        let waiting = matches!(self.state, State::Waiting { .. });
        if waiting && !matches!(command, Command::Connect { .. }) {
            return Err(Problem::new(Code::Unauthorized, "the first command must be `connect`"));
        }
        let (asked, action) = match command {
            // Whoever was let in without a credential may still bring one, once.
            Command::Connect { .. } if !waiting && self.grant.credential != Credential::Anonymous => {
                return Err(Problem::new(Code::BadFrame, "the connection has its credential: use `refresh`"));
            }
            Command::Connect { token } => (Asked::Connect { id }, Action::Authenticate { token, of: None }),
            Command::Refresh { token } => {
                (Asked::Refresh { id }, Action::Authenticate { token, of: Some(self.grant.holder()) })
            }
            Command::Subscribe(mut subscribe) => {
                if let Some(token) = subscribe.token.take() {
                    return self.begin_admission(id, subscribe, token);
                }
                let channel = subscribe.channel.clone();
                let begun = self.begin_subscribe(id, subscribe);
                if begun.is_err() && !self.subscriptions.contains_key(&channel) {
                    self.drop_pass(&channel);
                }
                return begun;
            }
            Command::Unsubscribe { channel } => {
                if !self.forget(&channel) {
                    return Err(Code::NotSubscribed.into());
                }
                self.reply(
                    id,
                    Frame::Unsubscribed(UnsubscribedFrame { channel: channel.clone(), code: None }),
                );
                (Asked::Leave, Action::Leave { channel })
            }
            Command::Publish(publish) => (Asked::Publish { id }, self.begin_publish(publish)?),
            Command::History(history) => return self.begin_history(id, history),
            Command::Presence { channel, limit } => {
                (Asked::Members { id }, self.begin_presence(channel, limit)?)
            }
            Command::Watch(watch) => return self.begin_watch(id, watch),
            Command::Unwatch(unwatch) => return Ok(self.begin_unwatch(id, unwatch)),
            Command::Ping { .. } => unreachable!("pings are answered when they come"),
        };
        self.asked = Some(asked);
        Ok(action)
    }

    fn begin_subscribe(&mut self, id: Option<u64>, command: SubscribeCommand) -> Result<Action, Problem> {
        let SubscribeCommand { channel, since, presence, token: _ } = command;
        let allowed = self.grant.may_subscribe(&channel) || self.has_pass(&channel);
        self.demand(allowed, &channel, "subscribe to")?;
        self.demand(!presence || self.grant.may_see_presence(&channel), &channel, "see the presence of")?;
        let channels_max = self.config.channels_max;
        let full = self.subscriptions.len() + usize::from(presence) >= channels_max;
        match self.subscriptions.entry(channel.clone()) {
            Entry::Occupied(_) => return Err(Code::AlreadySubscribed.into()),
            Entry::Vacant(_) if full => {
                let message = format!("a connection holds at most {channels_max} subscriptions");
                return Err(Problem::new(Code::LimitReached, message));
            }
            Entry::Vacant(entry) => entry.insert(Subscription::joining()),
        };
        if self.subscriptions.len() == 1 {
            // Most connections have one: no room is kept for two more.
            self.subscriptions.shrink_to_fit();
        }
        if presence {
            self.subscriptions.insert(channel.presence(), Subscription::joining());
        }
        self.asked = Some(Asked::Join { id, channel: channel.clone(), since: since.clone(), presence });
        let publications = match (&since, self.config.catch_up) {
            (Some(_), CatchUp::ByClient) => self.config.page.publications,
            _ => 0,
        };
        let limit = PageLimit { publications, ..self.config.page };
        Ok(Action::Join { channel, since, limit, user: self.grant.user.clone(), presence })
    }

    fn begin_publish(&self, publish: PublishCommand) -> Result<Action, Problem> {
        self.demand(self.grant.may_publish(&publish.channel), &publish.channel, "publish to")?;
        publish.check(self.config.message_bytes_max).map_err(|problem| match problem.code {
            // What a request calls a bad request is a bad frame here.
            Code::BadRequest => Problem { code: Code::BadFrame, ..problem },
            _ => problem,
        })?;
        Ok(Action::Publish(publish))
    }

    fn begin_history(&mut self, id: Option<u64>, history: HistoryCommand) -> Result<Action, Problem> {
        let HistoryCommand { channel, since, limit } = history;
        // Whoever resumes a subscription pages through what it missed, with no other right than the subscription's.
        let resumes =
            self.subscriptions.get(&channel).is_some_and(Subscription::is_catching_up) && since.is_some();
        self.demand(resumes || self.grant.may_read_history(&channel), &channel, "read the history of")?;
        let most = self.config.page.publications;
        let limit = PageLimit { publications: limit.unwrap_or(most).min(most), ..self.config.page };
        self.asked = Some(Asked::History { id, channel: channel.clone() });
        Ok(Action::Read { channel, since, limit })
    }

    pub(super) fn demand(&self, allowed: bool, channel: &Channel, what: &str) -> Result<(), Problem> {
        match allowed {
            true => Ok(()),
            false => Err(Problem::new(
                Code::ChannelNotAllowed,
                format!("the credential does not allow to {what} {channel}"),
            )),
        }
    }
}
