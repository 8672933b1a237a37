//! ACK modes, ACK and NACK.
