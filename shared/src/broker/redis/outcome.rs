//! What became of a request, from what the server answers.

use redis::{RedisError, Value};
use tracing::error;

use super::acceptance::Verdict;
use super::lane::{Content, Request};
use crate::broker::{Accepted, PublishError};
use crate::message::MessageId;

pub(super) enum Outcome {
    Answered(Result<Accepted, PublishError>),
    /// It was not accepted, but another attempt may be.
    Again(Again),
}

/// What another attempt needs.
#[derive(Clone, Copy, Default)]
pub(super) struct Again {
    /// A new connection loads the script, leads to the server that may write, or knows its time.
    pub(super) reconnect: bool,
    /// The shard may have another home.
    pub(super) moved: bool,
}

/// Reads one answer. The id that it tells is kept for another attempt.
pub(super) fn read(request: &mut Request, answer: Value) -> Outcome {
    let answer = match answer.extract_error() {
        Ok(answer) => answer,
        Err(error) => return refused(&error),
    };
    let verdict = match &mut request.content {
        Content::Plain { id, .. } => match answer {
            Value::Int(_) => {
                return Outcome::Answered(Ok(Accepted {
                    id: *id,
                    repeated: false,
                    prev: None,
                }));
            }
            _ => None,
        },
        Content::Message(acceptance) => acceptance.verdict(answer),
    };
    match verdict {
        Some(Verdict::Accepted {
            stamp,
            repeated,
            prev,
        }) => Outcome::Answered(Ok(Accepted {
            id: MessageId::new(stamp, request.shard),
            repeated,
            prev: prev.map(|prev| MessageId::new(prev, request.shard)),
        })),
        Some(Verdict::Full) => Outcome::Answered(Err(PublishError::Full)),
        Some(Verdict::TooLate) => Outcome::Again(Again {
            reconnect: true,
            ..Again::default()
        }),
        // The one before it has failed their series, or both are sent again.
        Some(Verdict::OutOfTurn) => Outcome::Again(Again::default()),
        None => {
            error!("Redis answers a publish with something else");
            Outcome::Answered(Err(PublishError::Unavailable))
        }
    }
}

fn refused(error: &RedisError) -> Outcome {
    let again = |reconnect, moved| Outcome::Again(Again { reconnect, moved });
    match error.code() {
        Some("OOM") => Outcome::Answered(Err(PublishError::Full)),
        Some("NOSCRIPT") => again(true, false),
        Some("READONLY" | "UNBLOCKED") => again(true, true),
        Some("MOVED" | "CLUSTERDOWN" | "MASTERDOWN") => again(false, true),
        // While a slot moves, one server has some of the keys and another the rest.
        Some("ASK" | "TRYAGAIN" | "LOADING" | "BUSY" | "NOREPLICAS" | "MISCONF") => {
            again(false, false)
        }
        _ => {
            error!(%error, "Redis refuses to publish");
            Outcome::Answered(Err(PublishError::Unavailable))
        }
    }
}
