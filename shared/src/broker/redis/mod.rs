//! The broker on Redis.

use std::sync::Arc;

use super::{Broker, BrokerError};
use crate::config::BrokerSettings;
use crate::metrics::Metrics;

pub(super) async fn open(
    _url: &str,
    _settings: &BrokerSettings,
    _metrics: &Metrics,
) -> Result<Arc<dyn Broker>, BrokerError> {
    Err(BrokerError::Unavailable("not yet".into()))
}
