//! Confirmations: a client's ping is answered once the log itself, asked after the ping came, said where it stands, and
//! everything up to there was told.
//!
//! ```text
//!   asked ──the broker is asked──▶ out ──it answers──▶ noted with its head ──the head is reached──▶ told
//!     ▲                             │                          │
//!     └───── no answer, or what was confirmed proves nothing ──┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::Offset;

use crate::hub::{SessionId, Time};

/// The broker is asked at most this often: a fiftieth of the shortest wait between a client's pings.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long what was announced before a confirmed head may take to arrive.
const OVERDUE_AFTER: Duration = Duration::from_secs(3);

/// By session, where to answer and its last ping.
type Pings<M> = IndexMap<SessionId, (M, u64)>;

#[derive(Debug)]
pub(super) struct Confirmations<M> {
    asked: Pings<M>,
    out: Pings<M>,
    /// Which question is out, if one is.
    ticket: Option<u64>,
    last_ticket: u64,
    noted: VecDeque<(Offset, Time, Pings<M>)>,
    next_at: Time,
}

impl<M> Default for Confirmations<M> {
    fn default() -> Self {
        let (asked, out) = (Pings::new(), Pings::new());
        let noted = VecDeque::new();
        Confirmations { asked, out, ticket: None, last_ticket: 0, noted, next_at: Time::ZERO }
    }
}

impl<M: Clone> Confirmations<M> {
    /// A ping came.
    pub(super) fn ask(&mut self, session: SessionId, mailbox: M, ping: u64) {
        self.asked.insert(session, (mailbox, ping));
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        let noted = self.noted.iter_mut().map(|(_, _, pings)| pings);
        for pings in [&mut self.asked, &mut self.out].into_iter().chain(noted) {
            pings.swap_remove(&session);
        }
    }

    /// Whether the broker is to be asked now, for all pings that came until now; and what tells the question from others.
    pub(super) fn begin(&mut self, now: Time) -> Option<u64> {
        if self.ticket.is_some() || self.asked.is_empty() || self.next_at > now {
            return None;
        }
        std::mem::swap(&mut self.asked, &mut self.out);
        self.last_ticket += 1;
        self.ticket = Some(self.last_ticket);
        self.next_at = now.after(INTERVAL);
        self.ticket
    }

    /// Whether this is the question that is out, which it is no more.
    pub(super) fn is_answered_by(&mut self, ticket: u64) -> bool {
        self.ticket.take_if(|asked| *asked == ticket).is_some()
    }

    /// When [`Confirmations::begin`] has something; `None` while nothing is asked, or a question is out.
    pub(super) fn begin_at(&self) -> Option<Time> {
        (self.ticket.is_none() && !self.asked.is_empty()).then_some(self.next_at)
    }

    /// When what was announced before a confirmed head has not arrived for too long.
    pub(super) fn overdue_at(&self) -> Option<Time> {
        self.noted.front().map(|(_, at, _)| *at)
    }

    /// The broker said that the log stands at `head`.
    pub(super) fn note(&mut self, head: Offset, now: Time) {
        self.noted.push_back((head, now.after(OVERDUE_AFTER), std::mem::take(&mut self.out)));
    }

    /// The broker said nothing, or what it said proves nothing any more.
    pub(super) fn ask_again(&mut self) {
        self.ticket = None;
        let noted = self.noted.drain(..).flat_map(|(_, _, pings)| pings);
        let earlier: Vec<_> = noted.chain(self.out.drain(..)).collect();
        for (session, earlier) in earlier {
            // Of several pings of one client the last stands for all.
            let asked = self.asked.entry(session).or_insert_with(|| earlier.clone());
            if asked.1 < earlier.1 {
                *asked = earlier;
            }
        }
    }

    /// Everything up to `head` was told.
    pub(super) fn release(&mut self, head: Offset, mut answer: impl FnMut(&M, u64)) {
        while self.noted.front().is_some_and(|(noted, _, _)| *noted <= head) {
            let Some((_, _, pings)) = self.noted.pop_front() else { return };
            pings.values().for_each(|(mailbox, ping)| answer(mailbox, *ping));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_pings_of_a_client_the_last_is_answered() {
        let (one, two) = (SessionId(1), SessionId(2));
        let mut confirmations = Confirmations::default();
        confirmations.ask(one, 'a', 1);
        let ticket = confirmations.begin(Time::ZERO).unwrap();
        assert!(confirmations.is_answered_by(ticket));
        confirmations.note(Offset(5), Time::ZERO);
        confirmations.ask(one, 'a', 2);
        confirmations.ask(two, 'b', 7);
        let later = Time::ZERO.after(INTERVAL);
        assert!(confirmations.begin(later).is_some());
        confirmations.ask_again();
        confirmations.ask(two, 'b', 8);
        let ticket = confirmations.begin(later.after(INTERVAL)).unwrap();
        assert!(confirmations.is_answered_by(ticket));
        confirmations.note(Offset(5), later);
        let mut answered = Vec::new();
        confirmations.release(Offset(5), |mailbox, ping| answered.push((*mailbox, ping)));
        answered.sort();
        assert_eq!(answered, [('a', 2), ('b', 8)]);
    }
}
