//! SockJS's URLs, frames and transports.
