//! Tests against the whole of tidings.
