//! A request's body, read within a bound and a deadline.

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::CONNECTION;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::answer::{Answer, error, set, unavailable};

/// How much more than its limit is read of a body, so that its sender gets to the end and finds
/// the answer: a connection that is closed on what it sends loses it.
const DISCARDED: usize = 2 << 20;

/// Reads a whole body of at most `limit` octets.
///
/// # Errors
/// [`BodyError`], with what to answer.
pub(crate) async fn read<B>(body: B, limit: usize, deadline: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let read = timeout(deadline, Limited::new(body, limit).collect()).await;
    match read.map_err(|_| BodyError::Late)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(failure) if failure.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Err(_) => Err(BodyError::Broken),
    }
}

/// The octets that the bodies of all requests may have together.
pub(crate) struct Budget(Semaphore);

/// A body that counts against its budget until it is dropped.
pub(crate) struct Held<'a> {
    /// The body.
    pub(crate) octets: Vec<u8>,
    permit: SemaphorePermit<'a>,
}

impl Budget {
    /// A budget of so many octets.
    pub(crate) fn new(octets: usize) -> Self {
        Self(Semaphore::new(octets))
    }

    /// Reads a whole body of at most `limit` octets. Each counts when it has come.
    ///
    /// # Errors
    /// [`BodyError`], with what to answer.
    pub(crate) async fn read<B: Body>(
        &self,
        body: B,
        limit: usize,
        deadline: Duration,
    ) -> Result<Held<'_>, BodyError> {
        timeout(deadline, self.gather(body, limit))
            .await
            .unwrap_or(Err(BodyError::Late))
    }

    async fn gather<B: Body>(&self, body: B, limit: usize) -> Result<Held<'_>, BodyError> {
        let most = limit.saturating_add(DISCARDED);
        if body.size_hint().lower() > most as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        let hold = |octets| {
            let octets = u32::try_from(octets).map_err(|_| BodyError::Overloaded)?;
            let permit = self.0.try_acquire_many(octets);
            permit.map_err(|_| BodyError::Overloaded)
        };
        let (octets, permit) = (Vec::new(), hold(0)?);
        let mut held = Ok(Held { octets, permit });
        let mut length = 0;
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
                continue;
            };
            length += data.remaining();
            if length > most {
                break;
            }
            held = match held {
                Ok(_) if length > limit => Err(BodyError::TooLarge { limit }),
                Ok(mut held) => hold(data.remaining()).map(|permit| {
                    held.permit.merge(permit);
                    held.take(data);
                    held
                }),
                Err(error) => Err(error),
            };
        }
        held
    }
}

impl Held<'_> {
    /// Copies: what a network gave may be a small part of a large buffer.
    fn take(&mut self, mut data: impl Buf) {
        while data.has_remaining() {
            let chunk = data.chunk();
            self.octets.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
}

/// Why a request has no body to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The body is larger than {limit} octets.")]
    TooLarge { limit: usize },
    #[error("The body did not arrive in time.")]
    Late,
    #[error("The body is broken off.")]
    Broken,
    #[error("This server is reading as many bodies as it may.")]
    Overloaded,
}

impl BodyError {
    /// The answer to the request. What is left of its body is not waited for.
    pub(crate) fn answer(self) -> Answer {
        let message = self.to_string();
        let mut answer = match self {
            Self::TooLarge { .. } => {
                error(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", &message)
            }
            Self::Late => error(StatusCode::REQUEST_TIMEOUT, "body-timeout", &message),
            Self::Broken => error(StatusCode::BAD_REQUEST, "bad-body", &message),
            Self::Overloaded => unavailable("overloaded", &message),
        };
        set(&mut answer, CONNECTION, "close");
        answer
    }
}
