//! What one user, one address and all together may take.

use clap::Args;
use shared::config::ConfigError;

/// Limits beyond those of one connection.
#[derive(Args, Clone, Debug)]
pub struct GuardArgs {}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct GuardSettings {}

impl GuardSettings {
    pub(super) fn from_args(_args: &GuardArgs) -> Result<Self, ConfigError> {
        Ok(Self {})
    }
}
