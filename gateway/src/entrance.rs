//! What every client passes, in this order, before it has a session.

use std::sync::Arc;

use shared::exit::Failure;
use shared::metrics::Metrics;
use shared::store::Store;

use crate::access::Access;
use crate::auth::Authenticator;
use crate::config::Settings;
use crate::front::Front;
use crate::guard::Guard;

/// What every client passes.
pub struct Entrance {
    pub(crate) front: Front,
    pub(crate) guard: Arc<Guard>,
    pub(crate) auth: Authenticator,
    pub(crate) access: Access,
}

impl Entrance {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`Failure`] when it makes no sense or cannot be had.
    pub async fn open(
        settings: &Settings,
        store: Arc<dyn Store>,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        Ok(Self {
            front: Front::open(&settings.front, metrics)?,
            guard: Arc::new(Guard::open(
                &settings.guard,
                settings.max_connections,
                metrics,
            )?),
            auth: Authenticator::open(&settings.auth, metrics).await?,
            access: Access::open(&settings.access, store, metrics).await?,
        })
    }
}
