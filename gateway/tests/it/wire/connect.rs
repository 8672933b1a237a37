//! The handshake, CONNECT and CONNECTED.
