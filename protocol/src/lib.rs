//! The tidings wire protocol: what is said, and the rules both ends follow.
