//! Who clients are: what they bring to prove it, and what it proves.

use std::fmt;
use std::time::Instant;

use hyper::Request;
use shared::exit::Failure;
use shared::message::UserName;

use crate::access::Grants;
use crate::close::CloseReason;
use crate::config::{Auth, AuthSettings};
use crate::session::anonymous;

/// What a client proves with who it is. Nothing shows it: not `Debug`, no error, no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Takes what a client brought.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a client brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who it says that it is.
    pub login: Option<UserName>,
    /// What it proves it with.
    pub token: Option<Token>,
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name: `sender` of what it sends, `user-name` of its CONNECTED.
    pub user: UserName,
    /// Until when that is so.
    pub expires: Option<Instant>,
    /// What its token allows.
    pub grants: Grants,
    /// It speaks for the application: it may say who sends, and send to users' queues.
    pub is_backend: bool,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It brought no token.
    #[error("a token is needed")]
    Missing,
    /// The token is none that is good here. What is wrong with it is not told.
    #[error("the token is not valid here")]
    Invalid,
    /// It was good.
    #[error("the token has expired")]
    Expired,
    /// The keys to check it by cannot be had.
    #[error("tokens cannot be checked at the moment")]
    Unavailable,
}

impl AuthError {
    /// How a session ends with it.
    pub fn reason(self) -> CloseReason {
        match self {
            Self::Missing | Self::Invalid => CloseReason::Unauthorized,
            Self::Expired => CloseReason::TokenExpired,
            Self::Unavailable => CloseReason::AuthUnavailable,
        }
    }
}

/// Checks who clients are.
pub struct Authenticator {
    auth: Auth,
}

impl Authenticator {
    /// Reads the keys that the settings name.
    ///
    /// # Errors
    /// [`Failure`] when they make no sense or cannot be had.
    pub async fn open(settings: &AuthSettings) -> Result<Self, Failure> {
        Ok(Self {
            auth: settings.auth,
        })
    }

    /// The token that comes with a request, where the settings take one from there.
    pub fn token<B>(&self, _request: &Request<B>) -> Option<Token> {
        None
    }

    /// Who brings these credentials.
    ///
    /// # Errors
    /// [`AuthError`] when nobody does that is known here.
    pub async fn authenticate(&self, credentials: Credentials) -> Result<Identity, AuthError> {
        match self.auth {
            Auth::None => Ok(Identity {
                user: credentials.login.unwrap_or_else(anonymous),
                expires: None,
                grants: Grants::default(),
                is_backend: true,
            }),
            Auth::Jwt => Err(AuthError::Unavailable),
        }
    }
}
