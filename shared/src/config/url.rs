//! Where the broker and the store are: `--broker` and `--store`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use mongodb::error::ErrorKind;
use mongodb::options::ConnectionString;

use super::ConfigError;
use super::servers::{ENCODE, Servers};

/// `--broker`. `Debug` and `Display` show it without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `memory:`: inside this process.
    Memory,
    /// `redis://…`, `redis+sentinel://…` or `redis+cluster://…`, or the same with `rediss` for TLS.
    Redis(String),
}

/// `--store`. `Debug` and `Display` show it without its password and options.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`: a file.
    Sqlite(PathBuf),
    /// `mongodb://…/DB` or `mongodb+srv://…/DB`.
    Mongo {
        /// The whole URL.
        url: String,
        /// The database that its path names.
        database: String,
    },
}

impl BrokerUrl {
    /// The URL as it may be logged.
    pub fn redacted(&self) -> String {
        match self {
            Self::Memory => "memory:".into(),
            Self::Redis(url) => Servers::redacted(url),
        }
    }

    /// How many replicas must have a message before it is accepted, where nothing else is said:
    /// one, where a replica may take its primary's place.
    pub fn replicas(&self) -> u8 {
        let several = match self {
            Self::Redis(url) => url
                .split(':')
                .next()
                .is_some_and(|scheme| scheme.contains('+')),
            Self::Memory => false,
        };
        u8::from(several)
    }
}

impl FromStr for BrokerUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = |reason: String| Err(ConfigError(reason));
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some((
                "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
                | "rediss+cluster",
                _,
            )) => text.parse::<Servers>().map(|_| Self::Redis(text.into())),
            _ => invalid(
                "memory:, redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or \
                 redis+cluster://HOST:PORT,HOST:PORT is needed (rediss… for TLS), such as \
                 redis://127.0.0.1:6379"
                    .into(),
            ),
        }
    }
}

impl StoreUrl {
    /// The URL as it may be logged.
    pub fn redacted(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Mongo { url, database } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("mongodb", ""));
                let authority = rest.split('?').next().unwrap_or_default();
                let hosts = authority.rsplit('@').next().unwrap_or_default();
                let hosts = hosts.split('/').next().unwrap_or_default();
                format!("{scheme}://{hosts}/{database}")
            }
        }
    }
}

impl FromStr for StoreUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = |reason: String| Err(ConfigError(reason));
        match text.split_once(':') {
            Some(("sqlite", "")) => invalid("sqlite:PATH: the path of the file is missing".into()),
            Some(("sqlite", ":memory:")) => {
                invalid("sqlite:PATH needs a file: history is to outlive the process".into())
            }
            Some(("sqlite", path)) if path.starts_with("//") => invalid(
                "sqlite:PATH takes the path right after the colon, such as sqlite:data/chat.db or \
                 sqlite:/var/lib/chat.db"
                    .into(),
            ),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some((scheme @ ("mongodb" | "mongodb+srv"), _)) => {
                match ConnectionString::parse(text) {
                    Ok(ConnectionString {
                        default_database: Some(database),
                        ..
                    }) => Ok(Self::Mongo {
                        url: text.into(),
                        database,
                    }),
                    Ok(_) => invalid(format!(
                        "{scheme}://HOST/DB: the database name is missing after the host, such as \
                     {scheme}://HOST/roomcast"
                    )),
                    // What the library says may quote a part of the password.
                    Err(_) if text.contains('@') => invalid(format!(
                        "{scheme}://USER:PASSWORD@HOST/DB cannot be read; {ENCODE}"
                    )),
                    Err(reason) => match *reason.kind {
                        ErrorKind::InvalidArgument { message, .. } => {
                            invalid(format!("{scheme}://HOST/DB is needed: {message}"))
                        }
                        _ => invalid(format!("{scheme}://HOST/DB is needed")),
                    },
                }
            }
            _ => invalid(
                "sqlite:PATH, mongodb://HOST/DB or mongodb+srv://HOST/DB is needed, such as \
                 mongodb://127.0.0.1:27017/roomcast"
                    .into(),
            ),
        }
    }
}

macro_rules! show_redacted {
    ($($url:ident),*) => {$(
        impl fmt::Display for $url {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.redacted())
            }
        }

        impl fmt::Debug for $url {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.redacted())
            }
        }
    )*};
}

show_redacted!(BrokerUrl, StoreUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_memory_or_redis() {
        assert_eq!("memory:".parse(), Ok(BrokerUrl::Memory));
        for url in [
            "redis://localhost",
            "redis://:pw@10.0.0.1:6380/2",
            "rediss://h/?protocol=resp3",
            "redis+sentinel://u:p@a,b:26380/mymaster/1?sentinel_password=s",
            "rediss+cluster://a,b",
        ] {
            let parsed: BrokerUrl = url.parse().unwrap();
            assert_eq!(parsed, BrokerUrl::Redis(url.into()));
            assert_eq!(parsed.replicas(), u8::from(url.contains('+')));
        }
    }

    #[test]
    fn a_wrong_broker_is_told_what_is_right() {
        for (url, hint) in [
            ("", "redis://127.0.0.1:6379"),
            ("memory", "memory:, redis://"),
            ("localhost:6379", "memory:, redis://"),
            ("redis://", "redis://HOST:PORT/DB is needed"),
            ("redis://host/notanumber", "Invalid database number"),
            ("redis://u:p/q@host:1", "%2F"),
            ("redis+sentinel://host", "the name of the service"),
            ("redis+cluster:", "redis+cluster://HOST"),
        ] {
            let error = url.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains(hint), "{url:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_store_is_a_file_or_a_mongodb_database() {
        assert_eq!(
            "sqlite:/tmp/a b.db".parse(),
            Ok(StoreUrl::Sqlite("/tmp/a b.db".into()))
        );
        for url in [
            "mongodb://localhost/chat",
            "mongodb://u:p%40@a:27017,b:27018/chat?replicaSet=rs0&authSource=admin",
            "mongodb+srv://u:p@cluster.example.net/chat",
        ] {
            let expected = StoreUrl::Mongo {
                url: url.into(),
                database: "chat".into(),
            };
            assert_eq!(url.parse(), Ok(expected));
        }
    }

    #[test]
    fn a_wrong_store_is_told_what_is_right() {
        for (url, hint) in [
            ("", "mongodb://127.0.0.1:27017/roomcast"),
            ("postgres://host/db", "sqlite:PATH, mongodb://HOST/DB"),
            ("sqlite:", "the path of the file is missing"),
            ("sqlite::memory:", "needs a file"),
            ("sqlite://data/chat.db", "right after the colon"),
            (
                "mongodb://host",
                "mongodb://HOST/DB: the database name is missing after the host",
            ),
            (
                "mongodb://host/?replicaSet=rs0",
                "the database name is missing",
            ),
            ("mongodb+srv://host:27017/db", "a port cannot be specified"),
            ("mongodb://host:port/db", "the port must be an integer"),
            ("mongodb://u:p?s3cret@host/db", "%3F"),
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(hint), "{url:?}: {error}");
            assert!(
                !error.contains('\n') && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let broker: BrokerUrl = "rediss://user:s3cret@host:6380/1?token=s3cret"
            .parse()
            .unwrap();
        assert_eq!(broker.to_string(), "rediss://host:6380/1");
        let store: StoreUrl = "mongodb://user:s3cret@a:1,b:2/chat?appName=s3cret"
            .parse()
            .unwrap();
        assert_eq!(store.to_string(), "mongodb://a:1,b:2/chat");
        assert!(!format!("{broker:?} {store:?}").contains("s3cret"));
    }
}
