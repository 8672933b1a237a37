//! What users may do: the flags of authorization.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use shared::config::ConfigError;

use super::{Auth, LONGEST};
use crate::fetch::Url;

const ACCESS: &str = "Access to rooms";

/// Who may subscribe to, send to and read the history of a room.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// What says who may read and write which room. Default: `claims` with --auth jwt, `open` with
    /// --auth none
    #[arg(long, env = "ROOMCAST_ACCESS", value_name = "SOURCE", value_enum, help_heading = ACCESS)]
    pub access: Option<AccessSource>,

    /// Where the application answers whether a user may, with --access callback
    #[arg(long, env = "ROOMCAST_ACCESS_URL", value_name = "URL", hide_env_values = true,
        help_heading = ACCESS)]
    pub access_url: Option<Secret>,

    /// A header for that URL, as in `Authorization: Bearer …`; better given by its variable, which
    /// other users of the machine do not see
    #[arg(long, env = "ROOMCAST_ACCESS_URL_HEADER", value_name = "HEADER", hide_env_values = true,
        help_heading = ACCESS)]
    pub access_url_header: Option<Secret>,

    /// How long the store or the URL may take to say whether a user may
    #[arg(long, env = "ROOMCAST_ACCESS_TIMEOUT", value_name = "TIME",
        value_parser = humantime::parse_duration, default_value = "2s", help_heading = ACCESS)]
    pub access_timeout: Duration,

    /// How long what they say counts, also for who has subscribed already
    #[arg(long, env = "ROOMCAST_ACCESS_TTL", value_name = "TIME",
        value_parser = humantime::parse_duration, default_value = "30s", help_heading = ACCESS)]
    pub access_ttl: Duration,

    /// How much of it is kept: answers for one user, room and action
    #[arg(long, env = "ROOMCAST_ACCESS_CACHE", value_name = "COUNT", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = ACCESS)]
    pub access_cache: u64,

    /// How a client is told that a SUBSCRIBE or SEND is refused
    #[arg(long, env = "ROOMCAST_REFUSALS", value_name = "HOW", value_enum,
        default_value_t = Refusals::Error, help_heading = ACCESS)]
    pub refusals: Refusals,
}

/// What a flag says that nobody is to see: it is checked where no error quotes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
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
    /// Where the application answers; there with [`AccessSource::Callback`].
    pub url: Option<Url>,
    /// What is sent along there.
    pub url_headers: HeaderMap,
    /// How long one question may take.
    pub timeout: Duration,
    /// How long an answer counts.
    pub ttl: Duration,
    /// How many are kept.
    pub cache: u64,
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
        let is_callback = source == AccessSource::Callback;
        if is_callback != args.access_url.is_some() {
            return Err(ConfigError(
                "--access callback and --access-url are given together".into(),
            ));
        }
        if args.access_url_header.is_some() && !is_callback {
            return Err(ConfigError(
                "--access-url-header needs --access callback".into(),
            ));
        }
        let url = args.access_url.as_ref().map(|url| {
            url.0
                .parse()
                .map_err(|error| ConfigError(format!("--access-url: {error}")))
        });
        Ok(Self {
            source,
            url: url.transpose()?,
            url_headers: args
                .access_url_header
                .as_ref()
                .map(header)
                .transpose()?
                .unwrap_or_default(),
            timeout: within(
                "--access-timeout",
                args.access_timeout,
                Duration::from_millis(10),
                Duration::from_secs(60),
            )?,
            ttl: within(
                "--access-ttl",
                args.access_ttl,
                Duration::from_secs(1),
                LONGEST,
            )?,
            cache: args.access_cache,
            refusals: args.refusals,
        })
    }
}

fn header(secret: &Secret) -> Result<HeaderMap, ConfigError> {
    let header = secret.0.split_once(':').and_then(|(name, value)| {
        let name: HeaderName = name.trim().parse().ok()?;
        let mut value: HeaderValue = value.trim().parse().ok()?;
        value.set_sensitive(true);
        Some(HeaderMap::from_iter([(name, value)]))
    });
    let expected = || ConfigError("--access-url-header is NAME: VALUE".into());
    header.ok_or_else(expected)
}

fn within(
    flag: &str,
    given: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigError> {
    if (least..=most).contains(&given) {
        return Ok(given);
    }
    let [given, least, most] = [given, least, most].map(humantime::format_duration);
    Err(ConfigError(format!(
        "{flag} must be between {least} and {most}, but is {given}"
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{AccessArgs, AccessSettings, AccessSource, Auth};

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        access: AccessArgs,
    }

    fn settings(auth: Auth, flags: &[&str]) -> Result<AccessSettings, String> {
        let command = Command::try_parse_from(["gateway"].iter().chain(flags));
        let args = command.map_err(|error| error.to_string())?.access;
        AccessSettings::from_args(&args, auth).map_err(|error| error.to_string())
    }

    #[test]
    fn who_is_known_by_a_token_may_do_what_it_claims_unless_told_otherwise() {
        let source = |auth| settings(auth, &[]).unwrap().source;
        assert_eq!(source(Auth::None), AccessSource::Open);
        assert_eq!(source(Auth::Jwt), AccessSource::Claims);
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for (auth, flags, names) in [
            (Auth::None, &["--access", "claims"][..], "--auth jwt"),
            (Auth::Jwt, &["--access", "callback"], "--access-url"),
            (
                Auth::Jwt,
                &["--access-url", "http://a/"],
                "--access callback",
            ),
            (
                Auth::Jwt,
                &["--access-url-header", "a: b"],
                "--access callback",
            ),
            (Auth::Jwt, &["--access-ttl", "10ms"], "--access-ttl"),
            (Auth::Jwt, &["--access-ttl", "2h"], "--access-ttl"),
            (Auth::Jwt, &["--access-timeout", "0s"], "--access-timeout"),
            (Auth::Jwt, &["--access-cache", "0"], "--access-cache"),
        ] {
            let error = settings(auth, flags).unwrap_err();
            assert!(error.contains(names), "{flags:?}: {error}");
        }
    }

    #[test]
    fn no_secret_is_quoted() {
        for flags in [
            ["--access-url", "ftp://kim:s3cret@a/"],
            ["--access-url", "http://kim:s3cret@a/"],
            ["--access-url", "http://a/"],
        ] {
            for header in ["s3cret", "X: \u{1}s3cret", "X Y: s3cret"] {
                let more = ["--access", "callback", "--access-url-header", header];
                let flags = [&flags[..], &more].concat();
                let error = settings(Auth::Jwt, &flags).unwrap_err();
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
        let flags = ["gateway", "--access-url", "http://a/?key=s3cret"];
        let header = ["--access-url-header", "X-Key: s3cret"];
        let args = Command::try_parse_from(flags.iter().chain(&header)).unwrap();
        assert!(!format!("{args:?}").contains("s3cret"));
        let flags = [&flags[1..], &header, &["--access", "callback"]].concat();
        let settings = settings(Auth::Jwt, &flags).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
