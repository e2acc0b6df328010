//! A load generator with a decoder of its own.
