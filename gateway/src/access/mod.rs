//! What users may do: who may subscribe to, send to and read the history of a room.

use std::sync::Arc;
use std::time::Instant;

use shared::exit::Failure;
use shared::message::RoomName;
use shared::store::Store;

use crate::auth::Identity;
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

/// The rooms that a token names, with what may be done there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {}

impl Grants {
    /// Reads the claim of a token that names rooms.
    pub fn from_claim(_claim: Option<&serde_json::Value>) -> Self {
        Self::default()
    }

    /// Whether they allow it.
    pub fn allow(&self, _room: &RoomName, _action: Action) -> bool {
        false
    }
}

/// Says who may do what.
pub struct Access {
    source: AccessSource,
}

impl Access {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`Failure`] when it makes no sense or cannot be had.
    pub async fn open(settings: &AccessSettings, _store: Arc<dyn Store>) -> Result<Self, Failure> {
        Ok(Self {
            source: settings.source,
        })
    }

    /// Whether who this is may do this, now.
    pub async fn check(&self, who: &Identity, room: &RoomName, action: Action) -> Verdict {
        let allowed = match self.source {
            AccessSource::Open => true,
            AccessSource::Claims => who.grants.allow(room, action),
            AccessSource::Members | AccessSource::Callback => false,
        };
        if allowed {
            Verdict::Granted { until: None }
        } else {
            Verdict::Refused
        }
    }
}
