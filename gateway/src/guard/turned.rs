//! Who is turned away, and what for.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};

use crate::answer::{Answer, error, set, unavailable};
use crate::close::CloseReason;

/// Why somebody is not served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// There are as many connections as there may be.
    #[error("This server has as many connections as it may.")]
    Connections,
    /// There is no memory for more.
    #[error("This server has no room for more connections.")]
    Memory,
    /// There are as many connections from this address as there may be.
    #[error("There are as many connections from here as there may be.")]
    Address,
    /// The user has as many connections as there may be.
    #[error("This user has as many connections as there may be.")]
    User,
    /// More comes a second than may; for how long.
    #[error("This is more a second than this server allows.")]
    Rate(Duration),
}

impl TurnedAway {
    /// The value of the metric label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Address => "address",
            Self::User => "user",
            Self::Rate(_) => "rate",
        }
    }

    /// How a session ends with it.
    pub const fn reason(self) -> CloseReason {
        match self {
            Self::Connections | Self::Memory => CloseReason::Overloaded,
            Self::Address | Self::User => CloseReason::TooManyConnections,
            Self::Rate(_) => CloseReason::RateLimited,
        }
    }

    /// 503 where it is this server that is full, 429 where it is the client that asks too much.
    pub(crate) fn answer(self) -> Answer {
        let text = self.to_string();
        let code = self.reason().code();
        match self {
            Self::Connections | Self::Memory => unavailable(code, &text),
            Self::Address | Self::User | Self::Rate(_) => {
                let mut answer = error(StatusCode::TOO_MANY_REQUESTS, code, &text);
                let seconds = match self {
                    Self::Rate(wait) => wait.as_secs() + 1,
                    _ => 5,
                };
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(seconds));
                answer
            }
        }
    }

    /// The same, after which the connection is closed.
    pub(crate) fn last_answer(self) -> Answer {
        let mut answer = self.answer();
        set(&mut answer, CONNECTION, "close");
        answer
    }
}
