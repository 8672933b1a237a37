//! What users may do: who may subscribe to, send to and read the history of a room.
//!
//! A token's `claims` answer at once. `members` and `callback` are asked, and what they answer is
//! kept for a while in `answers`.

mod answers;
mod callback;
mod grants;
mod members;
mod pattern;

use std::sync::Arc;
use std::time::Instant;

use shared::exit::Failure;
use shared::message::RoomName;
use shared::metrics::{GatewayMetrics, Metrics};
use shared::store::Store;

use self::answers::{Answers, Question};
use self::callback::Callback;
pub use self::grants::{Grants, GrantsError};
use self::members::Members;
use crate::auth::Identity;
use crate::close::CloseReason;
use crate::config::{AccessSettings, AccessSource};

/// What a user may want to do with a room, or with a user's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Get what is said from now on.
    Subscribe,
    /// Say something.
    Send,
    /// Read what was said before.
    History,
}

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, until this is to be asked again; `None` is as long as the identity lasts.
    Granted {
        /// When the answer is too old.
        until: Option<Instant>,
    },
    /// It may not.
    Refused,
    /// That cannot be said at the moment, so that it may not.
    Unavailable,
}

impl Verdict {
    /// What a client is told that may not; `None` where it may.
    pub fn denial(self) -> Option<CloseReason> {
        match self {
            Self::Granted { .. } => None,
            Self::Refused => Some(CloseReason::Forbidden),
            Self::Unavailable => Some(CloseReason::AccessUnavailable),
        }
    }

    /// Counts the decision.
    pub(crate) fn count(self, metrics: &GatewayMetrics) {
        let outcome = match self {
            Self::Granted { .. } => "granted",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        };
        metrics.access_decisions.with_label_values(&[outcome]).inc();
    }
}

/// Says who may do what.
pub struct Access {
    source: Source,
    metrics: Arc<GatewayMetrics>,
}

enum Source {
    Open,
    Claims,
    Asked(Arc<Answers>),
}

impl Access {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`Failure`] when it makes no sense or cannot be had.
    pub async fn open(
        settings: &AccessSettings,
        store: Arc<dyn Store>,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        let metrics = Arc::clone(&metrics.gateway);
        let answers = |source| {
            let answers = Answers::new(source, settings, Arc::clone(&metrics));
            Source::Asked(Arc::new(answers))
        };
        let source = match settings.source {
            AccessSource::Open => Source::Open,
            AccessSource::Claims => Source::Claims,
            AccessSource::Members => {
                store.prepare_rights().await?;
                answers(Box::new(Members(store)))
            }
            AccessSource::Callback => answers(Box::new(Callback::open(settings)?)),
        };
        Ok(Self { source, metrics })
    }

    /// Whether who this is may do this, now. An answer comes within 10 seconds and the time that
    /// one question may take.
    pub async fn check(&self, who: &Identity, room: &RoomName, action: Action) -> Verdict {
        let verdict = match &self.source {
            Source::Open => return Verdict::Granted { until: None },
            _ if goes_without_saying(who, room, action) => Verdict::Granted { until: None },
            Source::Claims => who.grants.verdict(room, action),
            Source::Asked(answers) => {
                let question = Question {
                    user: who.user.clone(),
                    room: room.clone(),
                    action,
                };
                answers.verdict(question).await
            }
        };
        verdict.count(&self.metrics);
        verdict
    }
}

/// Whether nobody needs to be asked: what speaks for the application may do everything, and whoever
/// a queue is for may read it.
pub(crate) fn goes_without_saying(who: &Identity, room: &RoomName, action: Action) -> bool {
    who.is_backend || (action != Action::Send && room.is_queue_of(&who.user))
}
