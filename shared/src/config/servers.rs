//! The servers that a Redis URL names, and how each of them is reached.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use redis::{ConnectionInfo, IntoConnectionInfo, parse_redis_url};

use super::ConfigError;

/// What a URL with a user name or password in it should be looked at for.
pub(super) const ENCODE: &str =
    "in a user name or password, write @ : / ? # % as %40 %3A %2F %3F %23 %25";

const SINGLE: &str = "redis://HOST:PORT/DB";
const SENTINEL: &str = "redis+sentinel://HOST:26379,HOST:26379/SERVICE";
const CLUSTER: &str = "redis+cluster://HOST:6379,HOST:6379";

/// A parsed Redis URL.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) arrangement: Arrangement,
    /// Those that are asked first: host, without brackets, and port.
    pub(crate) hosts: Vec<(String, u16)>,
    /// How the first is reached: encryption, user, password and database are the same for all
    /// servers that hold messages.
    pub(crate) access: ConnectionInfo,
}

/// How the servers belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// `redis://`: one server.
    Single,
    /// `redis+sentinel://`: the hosts are Sentinels, which name the primary of a service.
    Sentinel(Service),
    /// `redis+cluster://`: the hosts are some of the nodes.
    Cluster,
}

/// What Sentinels are asked for, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl Servers {
    /// The URL as it may be shown: without user, password and options. Nothing is left of one that
    /// cannot be read.
    pub(crate) fn redacted(url: &str) -> String {
        let scheme = url.split("://").next().unwrap_or_default();
        let Ok(servers) = url.parse::<Self>() else {
            return "redis://…".into();
        };
        let path = url.split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = path.rsplit('@').next().unwrap_or_default();
        let hosts = path.split('/').next().unwrap_or_default();
        let rest = match &servers.arrangement {
            Arrangement::Cluster => "",
            _ => &path[hosts.len()..],
        };
        format!("{scheme}://{hosts}{rest}")
    }
}

impl FromStr for Servers {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        let rest = rest.strip_prefix("//").unwrap_or("");
        let (plain, arrangement) = match scheme.split_once('+') {
            None => (scheme, "single"),
            Some(both) => both,
        };
        let right = match arrangement {
            "sentinel" => SENTINEL,
            "cluster" => CLUSTER,
            _ => SINGLE,
        };
        let wrong = |reason: &str| {
            let hint = if rest.contains('@') {
                format!("; {ENCODE}")
            } else {
                String::new()
            };
            ConfigError(format!("{right} is needed: {reason}{hint}"))
        };
        let one = |url: &str| {
            let parsed = parse_redis_url(url).map_or_else(
                || url.into_connection_info(),
                IntoConnectionInfo::into_connection_info,
            );
            parsed.map_err(|reason| {
                // The library adds the name of its kind of error behind a dash.
                let reason = reason.to_string();
                wrong(reason.split(" - ").next().unwrap_or(&reason))
            })
        };
        if !matches!(plain, "redis" | "rediss") {
            return Err(wrong("the scheme is another"));
        }
        if arrangement == "single" {
            let access = one(url)?;
            let hosts = match access.addr() {
                redis::ConnectionAddr::Tcp(host, port)
                | redis::ConnectionAddr::TcpTls { host, port, .. } => vec![(host.clone(), *port)],
                _ => return Err(wrong("a host is missing")),
            };
            return Ok(Self {
                arrangement: Arrangement::Single,
                hosts,
                access,
            });
        }

        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, format!("#{fragment}")),
            None => (rest, String::new()),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let mut options = options(query, arrangement).map_err(|reason| wrong(&reason))?;
        let (arrangement, database, port) = match arrangement {
            "cluster" if path.trim_matches('/').is_empty() || path == "0" => {
                (Arrangement::Cluster, "", 6379)
            }
            "cluster" => return Err(wrong("a cluster has no databases to choose from")),
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                let name = decoded(service).filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| {
                    wrong("the name of the service, as in `sentinel monitor NAME`, is missing")
                })?;
                let service = Service {
                    name,
                    username: options.0.take(),
                    password: options.1.take(),
                };
                (Arrangement::Sentinel(service), database, 26379)
            }
            _ => return Err(wrong("after the + is `sentinel` or `cluster`")),
        };
        let mut addresses = Vec::new();
        let mut access = None;
        for host in hosts.split(',') {
            if host.is_empty() {
                return Err(wrong("a host is missing"));
            }
            let digits = host.rsplit_once(':').map(|(_, digits)| digits);
            let has_port = digits.is_some_and(|digits| !digits.ends_with(']'));
            let port = if has_port {
                String::new()
            } else {
                format!(":{port}")
            };
            let info = one(&format!(
                "{plain}://{user}{host}{port}/{database}{fragment}"
            ))?;
            if let redis::ConnectionAddr::Tcp(host, port)
            | redis::ConnectionAddr::TcpTls { host, port, .. } = info.addr()
            {
                addresses.push((host.clone(), *port));
            }
            access.get_or_insert(info);
        }
        Ok(Self {
            arrangement,
            hosts: addresses,
            access: access.ok_or_else(|| wrong("a host is missing"))?,
        })
    }
}

/// The user name and password for Sentinels.
fn options(query: &str, of: &str) -> Result<(Option<String>, Option<String>), String> {
    let (mut username, mut password) = (None, None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = decoded(value).filter(|value| !value.is_empty());
        match name {
            "sentinel_username" if of == "sentinel" => username = value,
            "sentinel_password" if of == "sentinel" => password = value,
            _ if of == "sentinel" => {
                return Err(
                    "behind the ? may stand sentinel_username= and sentinel_password=, \
                            joined by &"
                        .into(),
                );
            }
            _ => return Err("nothing may stand behind a ?".into()),
        }
    }
    Ok((username, password))
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Servers {
        url.parse().unwrap()
    }

    #[test]
    fn sentinels_are_named_with_their_service() {
        let url = "redis+sentinel://u:p%40@a,[::1]:7000/my%20service/3?sentinel_password=s%26";
        let servers = parse(url);
        assert_eq!(
            servers.arrangement,
            Arrangement::Sentinel(Service {
                name: "my service".into(),
                username: None,
                password: Some("s&".into()),
            })
        );
        assert_eq!(servers.hosts, [("a".into(), 26379), ("::1".into(), 7000)]);
        let redis = servers.access.redis_settings();
        assert_eq!(
            (redis.username(), redis.password()),
            (Some("u"), Some("p@"))
        );
        assert_eq!(redis.db(), 3);
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let servers = parse("rediss+cluster://:pw@a,b:7001#insecure");
        assert_eq!(servers.arrangement, Arrangement::Cluster);
        assert_eq!(servers.hosts, [("a".into(), 6379), ("b".into(), 7001)]);
        let encrypted = matches!(
            servers.access.addr(),
            redis::ConnectionAddr::TcpTls { insecure: true, .. }
        );
        assert!(encrypted);
        assert_eq!(servers.access.redis_settings().password(), Some("pw"));
    }

    #[test]
    fn a_wrong_url_is_told_what_is_right() {
        for (url, hint) in [
            ("redis+sentinel://a:1,b:2", "the name of the service"),
            ("redis+sentinel://a:1,b:2/", "the name of the service"),
            ("redis+sentinel://a/x/y", "Invalid database number"),
            ("redis+sentinel://a/x?password=s3cret", "sentinel_password="),
            ("redis+sentinel:///x", "a host is missing"),
            ("redis+cluster://a,,b", "a host is missing"),
            ("redis+cluster://", "a host is missing"),
            ("redis+cluster://a/2", "no databases"),
            (
                "redis+cluster://a?sentinel_password=s3cret",
                "nothing may stand",
            ),
            ("redis+cluster://a:x", "redis+cluster://HOST"),
            ("redis+cluster://u:s3cret/@a:1", "%2F"),
            ("redis+other://a", "`sentinel` or `cluster`"),
            ("http://a", "the scheme is another"),
        ] {
            let error = url.parse::<Servers>().unwrap_err().to_string();
            assert!(error.contains(hint), "{url:?}: {error}");
            assert!(
                !error.contains('\n') && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for (url, shown) in [
            (
                "rediss+sentinel://u:s3cret@a,b:1/svc/2?sentinel_password=s3cret",
                "rediss+sentinel://a,b:1/svc/2",
            ),
            (
                "redis+cluster://u:s3cret@a,[::1]:7",
                "redis+cluster://a,[::1]:7",
            ),
            (
                "rediss://u:s3cret@h:6380/1?token=s3cret#insecure",
                "rediss://h:6380/1",
            ),
            ("redis://u:s3c/ret@h", "redis://…"),
        ] {
            assert_eq!(Servers::redacted(url), shown);
        }
    }
}
