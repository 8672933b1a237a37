//! Who clients are: the flags of authentication.

use clap::{Args, ValueEnum};
use shared::config::ConfigError;

const AUTH: &str = "Authentication";

/// How clients prove who they are.
#[derive(Args, Clone, Debug)]
pub struct AuthArgs {
    /// How clients prove who they are
    #[arg(long, env = "ROOMCAST_AUTH", value_name = "HOW", value_enum,
        default_value_t = Auth::None, help_heading = AUTH)]
    pub auth: Auth,
}

/// `--auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They do not: a client is who its CONNECT says. For trusted networks and for trying out.
    None,
    /// By a JSON Web Token that one of the keys has signed.
    Jwt,
}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// How clients prove who they are.
    pub auth: Auth,
}

impl AuthSettings {
    pub(super) fn from_args(args: &AuthArgs) -> Result<Self, ConfigError> {
        Ok(Self { auth: args.auth })
    }
}
