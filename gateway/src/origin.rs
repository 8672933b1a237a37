//! Which web pages may talk to this server: their origins (RFC 6454).

use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

/// Whether the page that a request comes from may talk to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page<'a> {
    /// The request names none: it does not come from a page, or the browser does not say.
    Unnamed,
    /// The page's origin, which may.
    Allowed(&'a HeaderValue),
    /// A page of an origin that may not.
    Foreign,
}

/// The origins of `--allowed-origin`. The server's own is always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(pub Vec<AllowedOrigin>);

impl Origins {
    /// Judges a request by its `Origin`.
    pub(crate) fn judge<'a>(&self, headers: &'a HeaderMap) -> Page<'a> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match headers.get(ORIGIN) {
            None => Page::Unnamed,
            Some(origin) => match origin.to_str() {
                Ok(text) if self.allow(text, host) => Page::Allowed(origin),
                _ => Page::Foreign,
            },
        }
    }

    /// Whether a page of this origin may talk to the server that it reaches as `host` (the `Host`
    /// header). The scheme of the server's own origin is not compared: a proxy may have ended TLS.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let own = origin
            .split_once("://")
            .zip(host)
            .is_some_and(|((scheme, page), host)| same_authority(scheme, page, host));
        own || self.0.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::One(one) => one.eq_ignore_ascii_case(origin),
        })
    }
}

/// Browsers leave a scheme's default port out of `Origin`; what a proxy makes of `Host` varies.
fn same_authority(scheme: &str, page: &str, host: &str) -> bool {
    let default_port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    let bare = |authority: &str| -> String {
        authority
            .strip_suffix(default_port)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    !page.is_empty() && bare(page) == bare(host)
}

/// One `--allowed-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: every page of the web.
    Any,
    /// The pages of one origin, written as browsers send it.
    One(Box<str>),
}

impl FromStr for AllowedOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (scheme, authority) = text.split_once("://").ok_or(OriginError)?;
        let scheme_is_word = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let odd = |c: char| c.is_control() || c.is_whitespace() || "/?#@*;,'\"".contains(c);
        if !scheme_is_word || authority.is_empty() || authority.contains(odd) {
            return Err(OriginError);
        }
        Ok(Self::One(text.into()))
    }
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an origin is * or scheme://host[:port], as in https://chat.example.com")]
pub struct OriginError;

#[cfg(test)]
mod tests {
    use super::{AllowedOrigin, Origins};

    #[test]
    fn the_own_origin_is_allowed_whatever_a_proxy_did_to_scheme_and_port() {
        let none = Origins::default();
        for (origin, host) in [
            ("http://chat.example.com", "chat.example.com"),
            ("https://chat.example.com", "chat.example.com"),
            ("https://chat.example.com", "chat.example.com:443"),
            ("http://Chat.example.com:8080", "chat.Example.com:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(none.allow(origin, Some(host)), "{origin} {host}");
        }
    }

    #[test]
    fn another_origin_needs_to_be_named() {
        let named = Origins(vec!["https://app.example.com".parse().unwrap()]);
        let host = Some("chat.example.com");
        assert!(named.allow("https://app.example.com", host));
        for origin in [
            "http://app.example.com",
            "https://app.example.com.evil.com",
            "https://evil.com",
            "https://chat.example.com:8443",
            "https://chat.example.com.evil.com",
            "null",
            "",
            "://",
        ] {
            assert!(!named.allow(origin, host), "{origin}");
        }
        assert!(Origins(vec![AllowedOrigin::Any]).allow("https://evil.com", host));
        assert!(!named.allow("http://chat.example.com", None));
    }

    #[test]
    fn what_no_browser_sends_is_refused_as_a_setting() {
        for text in [
            "example.com",
            "https://",
            "https://a.com/",
            "https://*.a.com",
            "https://a.com;",
            "https://'self'",
            "://a",
            "",
        ] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
    }
}
