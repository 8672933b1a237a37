//! A request's body, read within a bound and a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Body;
use tokio::time::timeout;

use crate::answer::{Answer, error};

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

/// Why a request has no body to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The body is larger than {limit} octets.")]
    TooLarge { limit: usize },
    #[error("The body did not arrive in time.")]
    Late,
    #[error("The body is broken off.")]
    Broken,
}

impl BodyError {
    /// The answer to the request.
    pub(crate) fn answer(self) -> Answer {
        let message = self.to_string();
        match self {
            Self::TooLarge { .. } => {
                error(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", &message)
            }
            Self::Late => error(StatusCode::REQUEST_TIMEOUT, "body-timeout", &message),
            Self::Broken => error(StatusCode::BAD_REQUEST, "bad-body", &message),
        }
    }
}
