//! What stands before the clients' octets: TLS, and proxies that are trusted.

use clap::Args;
use shared::config::ConfigError;

/// TLS, and proxies.
#[derive(Args, Clone, Debug)]
pub struct FrontArgs {}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct FrontSettings {}

impl FrontSettings {
    pub(super) fn from_args(_args: &FrontArgs) -> Result<Self, ConfigError> {
        Ok(Self {})
    }
}
