//! STOMP 1.0, 1.1 and 1.2 without any I/O: octets in, frames out, and the other way round.
