//! What is to be done after something came from the server.

use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Channel, Command, DegradedFrame, Epoch, GapFrame, Publication, RestoredFrame};

/// One thing to do; they come in the order in which they must be done.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this command, with its id.
    Say(Option<u64>, Command),
    /// The server took the subscriptions: what comes next is a success.
    Up,
    /// Show a publication.
    Show(Shown),
    /// Show that something is lost.
    Gap(GapFrame),
    /// Show that the server has lost a part.
    Degraded(DegradedFrame),
    /// Show that the part is back.
    Restored(RestoredFrame),
    /// Do not read on.
    End(End),
}

/// A publication with its place.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) channel: Channel,
    /// `None` where the channel keeps no history.
    pub(super) epoch: Option<Epoch>,
    pub(super) publication: Arc<Publication>,
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All that was asked for came.
    Counted,
    /// It broke. Another one may resume it, `after` so long if the server said so.
    Cut { why: String, after: Option<Duration> },
    /// The server does not want it; its words.
    Refused(String),
}

impl End {
    /// A cut for which the server gave no pause.
    pub(super) fn cut(why: impl ToString) -> End {
        End::Cut { why: why.to_string(), after: None }
    }
}
