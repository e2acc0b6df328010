//! What a connection is to be told of a mutation log: a set, not a queue. However long it is not taken, it holds each tag once, and
//! at most as many as are watched.

use indexmap::IndexMap;
use tidings_protocol::{Offset, Position, Tag};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNews {
    /// Every mutation up to here is in this, or was taken before.
    pub at: Position,
    /// Nobody knows what was touched.
    pub reset: bool,
    /// The numbering of what was told before ended; up to here the one of `at` means the same.
    pub continued: Option<Position>,
    /// What was touched, as it was watched, with the last mutation that touched it.
    pub touched: IndexMap<Tag, Offset>,
    /// Reading again should be spread over so many milliseconds.
    pub spread_ms: u64,
    /// The last ping after which `at` was confirmed.
    pub confirmed: Option<u64>,
}

impl LogNews {
    /// Nothing but where the log stands.
    pub fn new(at: Position) -> Self {
        let touched = IndexMap::new();
        LogNews { at, reset: false, continued: None, touched, spread_ms: 0, confirmed: None }
    }

    /// This was touched.
    pub fn touch(&mut self, tag: &Tag, offset: Offset) {
        match self.touched.get_mut(tag) {
            Some(last) => *last = offset.max(*last),
            None => drop(self.touched.insert(tag.clone(), offset)),
        }
    }

    /// The numbering is another one, and means the same up to `from`. What was touched after that, the log has lost: it will
    /// be touched again.
    pub fn go_on(&mut self, from: Position) {
        self.touched.retain(|_, offset| *offset <= from.offset);
        // Of several changes since, the deepest is how far the client's positions still count.
        let deepest = |earlier: Position| {
            let offset = earlier.offset.min(from.offset);
            earlier.epoch.at(offset)
        };
        self.continued = Some(self.continued.take().map_or(from.clone(), deepest));
        self.confirmed = None;
    }

    /// Nobody knows what was touched.
    pub fn reset(&mut self) {
        self.touched.clear();
        (self.reset, self.continued, self.confirmed) = (true, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> LogNews {
        let mut news = LogNews::new("a.9".parse().unwrap());
        for (tag, offset) in [("t", 7), ("u", 8), ("t", 9), ("u", 4)] {
            news.touch(&Tag::parse(tag).unwrap(), Offset(offset));
        }
        news.confirmed = Some(3);
        news
    }

    fn touched(news: &LogNews) -> Vec<String> {
        news.touched.iter().map(|(tag, offset)| format!("{tag} {offset}")).collect()
    }

    #[test]
    fn a_tag_is_there_once_with_its_last_mutation() {
        assert_eq!(touched(&news()), ["t 9", "u 8"]);
    }

    #[test]
    fn what_a_numbering_has_lost_is_not_told_under_the_next_one() {
        let mut news = news();
        news.go_on("a.8".parse().unwrap());
        assert_eq!((touched(&news), news.confirmed), (vec!["u 8".to_owned()], None));
        news.go_on("b.5".parse().unwrap());
        assert_eq!(news.continued, Some("a.5".parse().unwrap()), "the client knows only the first");
        assert!(news.touched.is_empty());
        news.reset();
        assert_eq!((news.reset, news.continued), (true, None));
    }
}
