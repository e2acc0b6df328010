//! Tokens for single channels: each lets the session hold one subscription that its own credential does not grant, for as
//! long as the token holds.

use tidings_protocol::{
    Channel, Code, Command, Frame, Problem, SubscribeCommand, TokenText, UnsubscribedFrame,
};

use super::{Asked, Session};
use crate::hub::{Action, ChannelGrant, Revocations, Time};

impl Session {
    /// A session with tokens that came with what it will subscribe to.
    pub fn with_passes(mut self, passes: Vec<ChannelGrant>) -> Self {
        self.passes = passes;
        self
    }

    /// A token came with a `subscribe`: it is checked before anything else is.
    pub(super) fn begin_admission(
        &mut self,
        id: Option<u64>,
        command: SubscribeCommand,
        token: TokenText,
    ) -> Result<Action, Problem> {
        if self.subscriptions.contains_key(&command.channel) {
            return Err(Code::AlreadySubscribed.into());
        }
        self.asked = Some(Asked::Admission { id, command });
        Ok(Action::Admit { token })
    }

    /// The token holds. It is of use where it is for this channel, and for this user if the session has one.
    pub(super) fn admitted(&mut self, id: Option<u64>, command: SubscribeCommand, pass: ChannelGrant) {
        if let Err(problem) = pass.check(&command.channel, &self.grant.user) {
            return self.refuse(id, problem);
        }
        self.passes.push(pass);
        self.commands.push_front((id, Ok(Command::Subscribe(command))));
    }

    /// Whether a token of its own grants the subscription.
    pub(super) fn has_pass(&self, channel: &Channel) -> bool {
        self.passes.iter().any(|pass| pass.channel == *channel)
    }

    /// A subscription that did not come about, or has ended, leaves no token behind.
    pub(super) fn drop_pass(&mut self, channel: &Channel) {
        self.passes.retain(|pass| pass.channel != *channel);
    }

    /// When the first token ends.
    pub(super) fn passes_due_at(&self) -> Option<Time> {
        self.passes.iter().map(|pass| pass.expires.at).min()
    }

    pub(super) fn end_expired_passes(&mut self, now: Time) {
        self.end_passes(Code::TokenExpired, |pass| pass.expires.at <= now);
    }

    pub(super) fn end_revoked_passes(&mut self, revocations: &Revocations) {
        self.end_passes(Code::Unauthorized, |pass| revocations.cover(&pass.user, &pass.credential));
    }

    /// Ends the subscriptions of tokens that do not hold any more, unless the session's own credential grants them.
    fn end_passes(&mut self, code: Code, is_over: impl Fn(&ChannelGrant) -> bool) {
        if !self.passes.iter().any(&is_over) {
            return;
        }
        let (over, hold) = std::mem::take(&mut self.passes).into_iter().partition(is_over);
        self.passes = hold;
        let over: Vec<ChannelGrant> = over;
        for ChannelGrant { channel, .. } in over {
            if !self.grant.may_subscribe(&channel) {
                self.lose(channel, code);
            }
        }
    }

    /// Ends a subscription whose permission has ended.
    pub(super) fn lose(&mut self, channel: Channel, code: Code) {
        if self.forget(&channel) {
            let frame = UnsubscribedFrame { channel: channel.clone(), code: Some(code) };
            self.say(None, Frame::Unsubscribed(frame));
            self.lost.push_back(channel);
        }
    }
}

#[cfg(test)]
mod tests;
