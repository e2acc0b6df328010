//! What a session does about presence: it hears of changes by a second subscription, to the channel's companion.

use tidings_protocol::{Channel, Code, Frame, PresenceChanges, PresenceFrame, PresenceMembers, Problem};

use super::Session;
use crate::hub::{Action, Grant};

impl Session {
    pub(super) fn begin_presence(
        &mut self,
        channel: Channel,
        limit: Option<usize>,
    ) -> Result<Action, Problem> {
        self.demand(self.grant.may_see_presence(&channel), &channel, "see the presence of")?;
        let most = self.config.members_max;
        Ok(Action::Members { channel, limit: limit.unwrap_or(most).min(most) })
    }

    pub(super) fn tell_members(&mut self, id: Option<u64>, members: PresenceMembers) {
        self.say(id, Frame::Presence(PresenceFrame::Members(members)));
    }

    /// From now on changes are passed on: a list that is asked for from here on holds what came before.
    pub(super) fn hear_presence(&mut self, channel: &Channel) {
        if let Some(companion) = self.subscriptions.get_mut(&channel.presence()) {
            companion.go_volatile();
        }
    }

    /// Ends a subscription and what belongs to it; false if there is none.
    pub(super) fn forget(&mut self, channel: &Channel) -> bool {
        self.drop_pass(channel);
        self.subscriptions.shift_remove(&channel.presence());
        self.subscriptions.shift_remove(channel).is_some()
    }

    /// Ends what a narrower grant does not let the client hear of any more.
    pub(super) fn end_presence(&mut self, grant: &Grant) {
        let heard = self.subscriptions.keys().filter_map(Channel::presence_of);
        let ended: Vec<Channel> = heard.filter(|channel| !grant.may_see_presence(channel)).collect();
        for channel in ended {
            self.subscriptions.shift_remove(&channel.presence());
            self.lost.push_back(channel.presence());
            let code = Some(Code::ChannelNotAllowed);
            let changes = PresenceChanges { code, ..PresenceChanges::none(channel) };
            self.say(None, Frame::Presence(PresenceFrame::Changes(changes)));
        }
    }

    /// What is said instead of changes that did not arrive.
    pub(super) fn presence_lost(channel: Channel) -> Frame {
        let changes = PresenceChanges { lost: true, ..PresenceChanges::none(channel) };
        Frame::Presence(PresenceFrame::Changes(changes))
    }
}
