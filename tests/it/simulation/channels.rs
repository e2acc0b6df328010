//! The channels of the simulated world: each is there for something that goes wrong in channels of its kind.

use std::sync::Arc;
use std::time::Duration;

use tidings::hub::{BatchRules, Retention};
use tidings_protocol::Channel;

/// How a channel behaves.
pub(crate) struct ChannelSpec {
    pub(crate) channel: Channel,
    pub(crate) rules: Arc<BatchRules>,
    pub(crate) retention: Retention,
    /// Published on seldom: whoever misses the last message is not told of it by the next.
    pub(crate) is_quiet: bool,
}

impl ChannelSpec {
    /// One that keeps so much.
    pub(crate) fn keeping(channel: Channel, retention: Retention) -> Self {
        ChannelSpec { channel, rules: Arc::new(rules(Some(WINDOW), true, 512)), retention, is_quiet: false }
    }

    /// Whether it keeps no history, hence has no positions.
    pub(crate) fn is_volatile(&self) -> bool {
        self.retention.publications_max == 0
    }
}

/// How long what is published is gathered, and what mutations touch.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// Every channel.
pub(crate) fn all() -> Vec<ChannelSpec> {
    let leading = || rules(Some(WINDOW), true, 512);
    vec![
        spec("busy:leading", leading(), 300, 120, false),
        spec("busy:strict", rules(Some(WINDOW), false, 4), 300, 120, false),
        spec("busy:immediate", rules(None, true, 512), 300, 120, false),
        spec("busy:tiny", leading(), 4, 120, false),
        spec("busy:volatile", leading(), 0, 120, false),
        spec("quiet:leading", leading(), 50, 120, true),
        spec("quiet:strict", rules(Some(WINDOW), false, 512), 50, 120, true),
        spec("quiet:immediate", rules(None, true, 512), 50, 120, true),
        spec("quiet:aged", leading(), 50, 3, true),
    ]
}

fn rules(window: Option<Duration>, leading: bool, publications_max: usize) -> BatchRules {
    BatchRules { window, leading, publications_max, bytes_max: 1_500 }
}

fn spec(name: &str, rules: BatchRules, publications_max: usize, age_s: u64, is_quiet: bool) -> ChannelSpec {
    let age_max = Duration::from_secs(age_s);
    let channel = Channel::parse(name).expect("the names above are channel names");
    let retention = Retention { publications_max, bytes_max: 1 << 20, age_max };
    ChannelSpec { rules: Arc::new(rules), is_quiet, ..ChannelSpec::keeping(channel, retention) }
}
