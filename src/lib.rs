//! tidings: a real-time pub/sub event server.
