//! What users may do: the flags of authorization.

use clap::{Args, ValueEnum};
use shared::config::ConfigError;

use super::Auth;

const ACCESS: &str = "Access to rooms";

/// Who may subscribe to, send to and read the history of a room.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// What says who may read and write which room. Default: `claims` with --auth jwt, `open` with
    /// --auth none
    #[arg(long, env = "ROOMCAST_ACCESS", value_name = "SOURCE", value_enum, help_heading = ACCESS)]
    pub access: Option<AccessSource>,

    /// How a client is told that a SUBSCRIBE or SEND is refused
    #[arg(long, env = "ROOMCAST_REFUSALS", value_name = "HOW", value_enum,
        default_value_t = Refusals::Error, help_heading = ACCESS)]
    pub refusals: Refusals,
}

/// `--access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessSource {
    /// Everyone may do everything.
    Open,
    /// The token's claim of rooms.
    Claims,
    /// The memberships in the store.
    Members,
    /// The application's own back end, asked by HTTP.
    Callback,
}

/// `--refusals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Refusals {
    /// An ERROR, which ends the connection.
    Error,
    /// A message on `/user/queue/errors` for who has subscribed to it; else an ERROR.
    Message,
}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// What says who may do what.
    pub source: AccessSource,
    /// How a refusal is told.
    pub refusals: Refusals,
}

impl AccessSettings {
    pub(super) fn from_args(args: &AccessArgs, auth: Auth) -> Result<Self, ConfigError> {
        let source = args.access.unwrap_or(match auth {
            Auth::None => AccessSource::Open,
            Auth::Jwt => AccessSource::Claims,
        });
        if auth == Auth::None && source != AccessSource::Open {
            return Err(ConfigError(
                "--access other than open needs --auth jwt: without it a user is whoever a client \
                 says"
                    .into(),
            ));
        }
        Ok(Self {
            source,
            refusals: args.refusals,
        })
    }
}
