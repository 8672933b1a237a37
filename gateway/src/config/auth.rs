//! Who clients are: the flags of authentication.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::config::{ConfigError, duration, positive_duration};

use super::{AllowedOrigin, Origins};
use crate::auth::{Keys, Rules};
use crate::fetch::Url;

const AUTH: &str = "Authentication";

/// How often published keys are read anew.
const REFRESH: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// How wrong clocks may be at most.
const LEEWAY: Duration = Duration::from_secs(300);

/// Names in the queries of our own URLs.
const TAKEN: [&str; 7] = ["limit", "before", "after", "receipt", "c", "callback", "t"];

/// How clients prove who they are.
#[derive(Args, Clone, Debug)]
pub struct AuthArgs {
    /// How clients prove who they are
    #[arg(long, env = "ROOMCAST_AUTH", value_name = "HOW", value_enum,
        default_value_t = Auth::None, help_heading = AUTH)]
    pub auth: Auth,

    /// Key that tokens are checked by: a public key or certificate as PEM (RS256, ES256, EdDSA), a
    /// JWK or JWK set, or a secret for HS256 of at least 32 octets. May be repeated. Other users of
    /// the machine see what is on a command line: give secrets by file or environment
    #[arg(long = "jwt-key", env = "ROOMCAST_JWT_KEY", value_name = "KEY", hide_env_values = true,
        allow_hyphen_values = true, help_heading = AUTH)]
    pub jwt_keys: Vec<KeyText>,

    /// File with such a key; read anew on SIGHUP. May be repeated
    #[arg(long = "jwt-key-file", env = "ROOMCAST_JWT_KEY_FILE", value_name = "PATH",
        value_delimiter = ',',
        help_heading = AUTH)]
    pub jwt_key_files: Vec<PathBuf>,

    /// URL of a JWK set with public keys, as identity providers publish it. It is read at start,
    /// every --jwt-jwks-refresh, and for a token that names an unknown key, but for that at most
    /// every 30 s. While it cannot be read the keys are kept, for 24 h
    #[arg(long, env = "ROOMCAST_JWT_JWKS_URL", value_name = "URL", hide_env_values = true,
        help_heading = AUTH)]
    pub jwt_jwks_url: Option<Url>,

    /// How often the JWK set is read anew
    #[arg(long, env = "ROOMCAST_JWT_JWKS_REFRESH", value_name = "TIME", default_value = "10m",
        value_parser = positive_duration, help_heading = AUTH)]
    pub jwt_jwks_refresh: Duration,

    /// Reads the JWK set by http:// from another machine too: whoever is on the way can then make
    /// tokens
    #[arg(long, env = "ROOMCAST_JWT_JWKS_ALLOW_HTTP", help_heading = AUTH)]
    pub jwt_jwks_allow_http: bool,

    /// Audience (`aud`) that a token must name. May be repeated: one of them. Without it tokens that
    /// the same issuer made for other services are good here too
    #[arg(long = "jwt-audience", env = "ROOMCAST_JWT_AUDIENCE", value_name = "NAME",
        value_delimiter = ',',
        help_heading = AUTH)]
    pub jwt_audiences: Vec<String>,

    /// Issuer (`iss`) that a token must name. May be repeated: one of them
    #[arg(long = "jwt-issuer", env = "ROOMCAST_JWT_ISSUER", value_name = "NAME",
        value_delimiter = ',',
        help_heading = AUTH)]
    pub jwt_issuers: Vec<String>,

    /// How far the issuer's clock and this one may be apart: a token is good for so long after its
    /// `exp`, and before its `nbf`; at most 5m
    #[arg(long, env = "ROOMCAST_JWT_LEEWAY", value_name = "TIME", default_value = "30s",
        value_parser = duration, help_heading = AUTH)]
    pub jwt_leeway: Duration,

    /// Claim that names the user
    #[arg(long, env = "ROOMCAST_JWT_USER_CLAIM", value_name = "CLAIM", default_value = "sub",
        help_heading = AUTH)]
    pub jwt_user_claim: String,

    /// Claim that says what the user may do in which rooms, for --access claims
    #[arg(long, env = "ROOMCAST_JWT_ROOMS_CLAIM", value_name = "CLAIM", default_value = "rooms",
        help_heading = AUTH)]
    pub jwt_rooms_claim: String,

    /// Claim that is `true` in tokens of the application itself, which may name any sender
    #[arg(long, env = "ROOMCAST_JWT_BACKEND_CLAIM", value_name = "CLAIM",
        default_value = "backend", help_heading = AUTH)]
    pub jwt_backend_claim: String,

    /// Takes tokens without `exp`, which are good for ever
    #[arg(long, env = "ROOMCAST_JWT_ALLOW_NO_EXP", help_heading = AUTH)]
    pub jwt_allow_no_exp: bool,

    /// Cookie of the request that may have the token. Not with --allowed-origin *: any page could
    /// then act for the users who visit it
    #[arg(long, env = "ROOMCAST_JWT_COOKIE", value_name = "NAME", help_heading = AUTH)]
    pub jwt_cookie: Option<String>,

    /// Parameter of the request's query that may have the token. Proxies log queries: use it only
    /// for tokens of a short life
    #[arg(long, env = "ROOMCAST_JWT_QUERY", value_name = "NAME", help_heading = AUTH)]
    pub jwt_query: Option<String>,
}

/// `--auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They do not: a client is who its CONNECT says. For trusted networks and for trying out.
    None,
    /// By a JSON Web Token that one of the keys has signed.
    Jwt,
}

/// One `--jwt-key`, as it was given. `Debug` does not show it.
#[derive(Clone)]
pub struct KeyText(Box<str>);

impl FromStr for KeyText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// How clients prove who they are.
    pub auth: Auth,
    /// The keys that were given.
    pub(crate) keys: Keys,
    /// Those that stand in files.
    pub(crate) file_keys: Keys,
    /// The files, to be read anew.
    pub(crate) key_files: Vec<PathBuf>,
    /// Where more are published.
    pub(crate) jwks: Option<Url>,
    /// How often they are read anew.
    pub(crate) jwks_refresh: Duration,
    /// How long to try for them at start: `--connect-timeout`.
    pub connect_timeout: Duration,
    /// What is asked of a token beside its signature.
    pub(crate) rules: Rules,
    /// The cookie that may have it.
    pub(crate) cookie: Option<String>,
    /// The parameter of the query that may have it.
    pub(crate) query: Option<String>,
}

impl AuthSettings {
    pub(super) fn from_args(args: &AuthArgs, origins: &Origins) -> Result<Self, ConfigError> {
        let refuse = |text: &str| Err(ConfigError(text.into()));
        let has_keys = !args.jwt_keys.is_empty()
            || !args.jwt_key_files.is_empty()
            || args.jwt_jwks_url.is_some();
        let has_rules = !args.jwt_audiences.is_empty()
            || !args.jwt_issuers.is_empty()
            || args.jwt_cookie.is_some()
            || args.jwt_query.is_some();
        match args.auth {
            Auth::None if has_keys || has_rules => {
                return refuse("--jwt-… flags need --auth jwt: without it no token is looked at");
            }
            Auth::Jwt if !has_keys => {
                return refuse(
                    "--auth jwt needs a key to check tokens by: --jwt-key, --jwt-key-file or \
                     --jwt-jwks-url",
                );
            }
            _ => {}
        }
        let mut keys = Keys::default();
        for KeyText(text) in &args.jwt_keys {
            let added = keys.add(text.as_bytes());
            added.map_err(|reason| ConfigError(format!("--jwt-key: {reason}")))?;
        }
        let file_keys = Keys::read(&args.jwt_key_files).map_err(ConfigError)?;
        if args.jwt_jwks_url.as_ref().is_some_and(Url::is_exposed) && !args.jwt_jwks_allow_http {
            return refuse(
                "--jwt-jwks-url must be https:// when it is on another machine; \
                 --jwt-jwks-allow-http takes http:// all the same",
            );
        }
        if !REFRESH.contains(&args.jwt_jwks_refresh) {
            return refuse("--jwt-jwks-refresh must be between 1s and 24h");
        }
        if args.jwt_leeway > LEEWAY {
            return refuse("--jwt-leeway must be at most 5m");
        }
        if let Some(cookie) = &args.jwt_cookie {
            if !is_name(cookie) {
                return refuse("--jwt-cookie is a name of A-Z a-z 0-9 _ . -");
            }
            if origins.0.contains(&AllowedOrigin::Any) {
                return refuse(
                    "--jwt-cookie and --allowed-origin * exclude each other: any page could act \
                     for the users who visit it; name the origins of your pages",
                );
            }
        }
        if let Some(query) = &args.jwt_query
            && (!is_name(query) || TAKEN.contains(&&query[..]))
        {
            return refuse(
                "--jwt-query is a name of A-Z a-z 0-9 _ . - that stands for nothing else here, \
                 such as access_token",
            );
        }
        Ok(Self {
            auth: args.auth,
            keys,
            file_keys,
            key_files: args.jwt_key_files.clone(),
            jwks: args.jwt_jwks_url.clone(),
            jwks_refresh: args.jwt_jwks_refresh,
            connect_timeout: Duration::from_secs(10),
            rules: Rules {
                audiences: args.jwt_audiences.clone(),
                issuers: args.jwt_issuers.clone(),
                leeway: args.jwt_leeway,
                user_claim: args.jwt_user_claim.clone(),
                rooms_claim: args.jwt_rooms_claim.clone(),
                backend_claim: args.jwt_backend_claim.clone(),
                may_last: args.jwt_allow_no_exp,
            },
            cookie: args.jwt_cookie.clone(),
            query: args.jwt_query.clone(),
        })
    }
}

/// Whether a text can be the name of a cookie (RFC 6265, section 4.1.1) and of a parameter.
fn is_name(text: &str) -> bool {
    let is_known = |octet: u8| octet.is_ascii_alphanumeric() || b"_.-".contains(&octet);
    !text.is_empty() && text.bytes().all(is_known)
}
