//! Who clients are: what they bring to prove it, and what it proves.

mod jwk;
mod jwt;
mod key;
mod keys;
mod published;
mod request;
mod schedule;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use hyper::Request;
use shared::exit::Failure;
use shared::message::UserName;
use shared::metrics::{GatewayMetrics, Metrics};
use shared::reload::Reload;
use tokio::task::spawn_blocking;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::jwt::Rules;
pub(crate) use self::keys::Keys;
pub(crate) use self::request::bearer;

use self::jwt::Signed;
use self::published::Published;
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

impl Identity {
    /// Who says so without proof, or gives no name. Where that counts, everybody may do everything.
    pub(crate) fn unproved(login: Option<UserName>) -> Self {
        Self {
            user: login.unwrap_or_else(anonymous),
            expires: None,
            grants: Grants::default(),
            is_backend: true,
        }
    }
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

    /// The value of the metric label `reason`.
    const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Checks who clients are.
pub struct Authenticator {
    auth: Auth,
    given: Keys,
    files: Arc<RwLock<Keys>>,
    published: Option<Arc<Published>>,
    rules: Rules,
    cookie: Option<String>,
    query: Option<String>,
    metrics: Arc<GatewayMetrics>,
    _end: DropGuard,
}

impl Authenticator {
    /// Reads the keys that the settings name, and goes on doing so: those of a URL as they are due,
    /// and files on SIGHUP. Of files that make no sense then the old keys are kept.
    ///
    /// # Errors
    /// [`Failure`] when they make no sense or cannot be had.
    pub async fn open(settings: &AuthSettings, metrics: &Metrics) -> Result<Self, Failure> {
        let metrics = Arc::clone(&metrics.gateway);
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        let files = Arc::new(RwLock::new(settings.file_keys.clone()));
        if !settings.key_files.is_empty() {
            let (paths, keys) = (settings.key_files.clone(), Arc::clone(&files));
            tokio::spawn(reread(paths, keys, Arc::clone(&metrics), end.clone()));
        }
        let published = match &settings.jwks {
            Some(url) => {
                let url = url.clone();
                Some(Published::open(url, settings, Arc::clone(&metrics), end).await?)
            }
            None => None,
        };
        Ok(Self {
            auth: settings.auth,
            given: settings.keys.clone(),
            files,
            published,
            rules: settings.rules.clone(),
            cookie: settings.cookie.clone(),
            query: settings.query.clone(),
            metrics,
            _end,
        })
    }

    /// The token that comes with a request, where the settings take one from there.
    pub fn token<B>(&self, request: &Request<B>) -> Option<Token> {
        match self.auth {
            Auth::None => None,
            Auth::Jwt => request::token(request, self.cookie.as_deref(), self.query.as_deref()),
        }
    }

    /// A request's query without the token that it may have.
    pub(crate) fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        request::without(query, self.query.as_deref())
    }

    /// Whether browsers prove who their user is without their pages' doing, by a cookie.
    pub(crate) fn takes_cookie(&self) -> bool {
        self.cookie.is_some()
    }

    /// Who brings these credentials. It takes as long as reading the issuer's keys at most.
    ///
    /// # Errors
    /// [`AuthError`] when nobody does that is known here.
    pub async fn authenticate(&self, credentials: Credentials) -> Result<Identity, AuthError> {
        match self.auth {
            Auth::None => Ok(Identity::unproved(credentials.login)),
            Auth::Jwt => {
                let who = self.check(credentials.token).await;
                if let Err(error) = who {
                    let failures = &self.metrics.auth_failures;
                    failures.with_label_values(&[error.label()]).inc();
                }
                who
            }
        }
    }

    async fn check(&self, token: Option<Token>) -> Result<Identity, AuthError> {
        let Token(token) = token.ok_or(AuthError::Missing)?;
        let signed = Signed::parse(&token)?;
        let is_signed = signed.is_signed_by(self.given.all()) || {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            signed.is_signed_by(files.all())
        };
        if !is_signed {
            let published = self.published.as_ref().ok_or(AuthError::Invalid)?;
            published.check(&signed).await?;
        }
        let claims = signed.claims(&self.rules, SystemTime::now())?;
        Ok(Identity {
            user: claims.user,
            expires: claims
                .remaining
                .and_then(|remaining| Instant::now().checked_add(remaining)),
            grants: claims.grants,
            is_backend: claims.is_backend,
        })
    }
}

/// Reads files anew on SIGHUP, until `end`.
async fn reread(
    files: Vec<PathBuf>,
    keys: Arc<RwLock<Keys>>,
    metrics: Arc<GatewayMetrics>,
    end: CancellationToken,
) {
    let mut reload = Reload::listen();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = reload.asked() => {}
        }
        let files = files.clone();
        let read = spawn_blocking(move || Keys::read(&files)).await;
        let outcome = match read.unwrap_or_else(|stopped| Err(stopped.to_string())) {
            Ok(read) => {
                *keys.write().unwrap_or_else(PoisonError::into_inner) = read;
                tracing::info!("key files for tokens read");
                "ok"
            }
            Err(reason) => {
                tracing::error!(reason, "the old keys for tokens are kept");
                "failed"
            }
        };
        metrics.key_refreshes.with_label_values(&[outcome]).inc();
    }
}
