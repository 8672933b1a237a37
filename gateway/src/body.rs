//! Bodies: a request's, read within a bound and a deadline, and an answer's, until it is taken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::CONNECTION;
use tokio::time::timeout;

use crate::answer::{Answer, error, set, unavailable};
use crate::guard::{Network, Party};

/// How much more than its limit is read of a body, so that its sender gets to the end and finds
/// the answer: a connection that is closed on what it sends loses it.
const DISCARDED: usize = 2 << 20;

/// The octets that the bodies of all requests may have together.
///
/// Those of one address have no more than are left for others, so that who sends many bodies and
/// never ends them finds no room before others do: half of it all, where nobody else sends.
pub(crate) struct Budget {
    account: Mutex<Account>,
}

struct Account {
    free: usize,
    held: HashMap<Network, usize>,
}

/// A body that counts against its budget until it is dropped.
pub(crate) struct Held {
    /// The body.
    pub(crate) octets: Vec<u8>,
    budget: Arc<Budget>,
    from: Network,
    count: usize,
}

/// How a body may come.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// With whom its octets count.
    pub(crate) party: Option<Arc<Party>>,
    /// The most octets of it.
    pub(crate) limit: usize,
    /// How long all of it may take; it may come no further for half of that.
    pub(crate) deadline: Duration,
}

impl Budget {
    /// A budget of so many octets.
    pub(crate) fn new(octets: usize) -> Arc<Self> {
        Arc::new(Self {
            account: Mutex::new(Account {
                free: octets,
                held: HashMap::new(),
            }),
        })
    }

    /// Counts the body of an answer, which waits until its client has taken it.
    ///
    /// # Errors
    /// [`BodyError::Overloaded`] where there is no room for it.
    pub(crate) fn hold(
        self: &Arc<Self>,
        octets: Vec<u8>,
        address: IpAddr,
    ) -> Result<Bytes, BodyError> {
        let mut held = self.nothing(address);
        held.count(octets.len())?;
        held.octets = octets;
        Ok(Bytes::from_owner(held))
    }

    fn nothing(self: &Arc<Self>, address: IpAddr) -> Held {
        Held {
            octets: Vec::new(),
            budget: Arc::clone(self),
            from: Network::of(address),
            count: 0,
        }
    }

    /// Reads a whole body on these terms. Each octet counts when it has come.
    ///
    /// # Errors
    /// [`BodyError`], with what to answer.
    pub(crate) async fn read<B: Body>(
        self: &Arc<Self>,
        body: B,
        terms: &Terms,
    ) -> Result<Held, BodyError> {
        timeout(terms.deadline, self.gather(body, terms))
            .await
            .unwrap_or(Err(BodyError::Late))
    }

    async fn gather<B: Body>(self: &Arc<Self>, body: B, terms: &Terms) -> Result<Held, BodyError> {
        let limit = terms.limit;
        let most = limit.saturating_add(DISCARDED);
        if body.size_hint().lower() > most as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        let mut held = Ok(self.nothing(terms.address));
        let mut length = 0;
        let mut body = pin!(body);
        while let Some(frame) = timeout(terms.deadline / 2, body.frame())
            .await
            .map_err(|_| BodyError::Late)?
        {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
                continue;
            };
            length += data.remaining();
            if let Some(party) = &terms.party {
                party.take_octets(Instant::now(), data.remaining());
            }
            if length > most {
                break;
            }
            held = match held {
                Ok(_) if length > limit => Err(BodyError::TooLarge { limit }),
                Ok(mut held) => held.take(data).map(|()| held),
                Err(error) => Err(error),
            };
        }
        held
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Copies: what a network gave may be a small part of a large buffer.
    fn take(&mut self, mut data: impl Buf) -> Result<(), BodyError> {
        self.count(data.remaining())?;
        while data.has_remaining() {
            let chunk = data.chunk();
            self.octets.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), BodyError> {
        let mut account = self.budget.account();
        let left = account
            .free
            .checked_sub(more)
            .ok_or(BodyError::Overloaded)?;
        let of_address = account.held.entry(self.from).or_default();
        let is_too_much = *of_address + more > left;
        if !is_too_much {
            *of_address += more;
        }
        if *of_address == 0 {
            account.held.remove(&self.from);
        }
        if is_too_much {
            return Err(BodyError::Overloaded);
        }
        account.free = left;
        self.count += more;
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut account = self.budget.account();
        account.free += self.count;
        if let Some(of_address) = account.held.get_mut(&self.from) {
            *of_address -= self.count;
            if *of_address == 0 {
                account.held.remove(&self.from);
            }
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
    #[error("This server has as many bodies under way as it may.")]
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
