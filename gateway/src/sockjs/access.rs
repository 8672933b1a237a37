//! Whose pages may use an endpoint, and the headers that tell browsers so.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    CACHE_CONTROL, CONTENT_TYPE, COOKIE, EXPIRES, HOST, HeaderMap, HeaderValue, REFERER,
    SET_COOKIE, VARY,
};
use hyper::{Request, StatusCode};

use crate::answer::{Answer, empty, set};
use crate::config::Origins;
use crate::origin::Page;

/// What nothing between us and a client may keep or change.
const NOT_CACHED: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

/// A year, for what never changes.
const CACHED: &str = "public, max-age=31536000";

/// For caches that do not know `max-age`.
const CACHED_UNTIL: &str = "Thu, 31 Dec 2037 23:55:55 GMT";

/// A request whose page, where there is one, may use the endpoint.
pub(super) struct Access {
    origin: Option<HeaderValue>,
    asked_headers: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
}

impl Access {
    /// Judges a request by its `Origin`. Scripts and frames are loaded without one; where the
    /// browser says that it is for a page of another site, `Referer` has that page's.
    ///
    /// `None` when the page may not.
    pub(super) fn judge<B>(request: &Request<B>, origins: &Origins) -> Option<Self> {
        let headers = request.headers();
        let origin = match origins.judge(headers) {
            Page::Allowed(origin) => Some(origin.clone()),
            Page::Foreign => return None,
            Page::Unnamed => {
                let host = text(headers, HOST.as_str());
                let allows = |origin: &str| origins.allow(origin, host);
                let is_foreign = matches!(
                    text(headers, "sec-fetch-site"),
                    Some("cross-site" | "same-site")
                );
                if is_foreign
                    && !text(headers, REFERER.as_str()).is_some_and(|url| allows(origin_of(url)))
                {
                    return None;
                }
                None
            }
        };
        Some(Self {
            origin,
            asked_headers: headers
                .get(ACCESS_CONTROL_REQUEST_HEADERS)
                .filter(|names| !names.is_empty())
                .cloned(),
            cookie: session_cookie(headers),
        })
    }

    /// 204 to OPTIONS, which browsers may remember for a year.
    pub(super) fn preflight(&self, methods: &'static str) -> Answer {
        let mut answer = empty(StatusCode::NO_CONTENT);
        set_cached(&mut answer);
        set(&mut answer, ALLOW, methods);
        set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, methods);
        set(&mut answer, ACCESS_CONTROL_MAX_AGE, "31536000");
        if let Some(names) = &self.asked_headers {
            answer
                .headers_mut()
                .insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        answer
    }

    /// Lets the page of the request, and no other, read the answer.
    pub(super) fn set_cors(&self, answer: &mut Answer) {
        // The answer differs by origin, which a cache between has to know also where there is none.
        set(answer, VARY, "Origin");
        if let Some(origin) = &self.origin {
            set(answer, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
            answer
                .headers_mut()
                .insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }

    /// The cookie by which some load balancers know where a session is: the client's own, or any.
    pub(super) fn set_cookie(&self, answer: &mut Answer) {
        let cookie = self.cookie.clone();
        let cookie = cookie.unwrap_or_else(|| HeaderValue::from_static("JSESSIONID=dummy; path=/"));
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
}

/// Lets nobody keep an answer.
pub(super) fn set_not_cached(answer: &mut Answer) {
    set(answer, CACHE_CONTROL, NOT_CACHED);
}

/// Lets everybody keep an answer.
pub(super) fn set_cached(answer: &mut Answer) {
    set(answer, CACHE_CONTROL, CACHED);
    set(answer, EXPIRES, CACHED_UNTIL);
}

/// A sentence for people, which programs tell by the status.
pub(super) fn sentence(status: StatusCode, text: &str) -> Answer {
    let body = format!("{text}\n").into();
    let mut answer = crate::answer::with_body(status, "text/plain; charset=UTF-8", body);
    set_not_cached(&mut answer);
    answer
}

/// 405, which SockJS wants without any body.
pub(super) fn wrong_method(methods: &'static str) -> Answer {
    let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
    set(&mut answer, ALLOW, methods);
    set_not_cached(&mut answer);
    answer
}

/// 204 with the type that keeps some browsers from looking for XML in it.
pub(super) fn nothing() -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    set(&mut answer, CONTENT_TYPE, "text/plain; charset=UTF-8");
    set_not_cached(&mut answer);
    answer
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The origin of a URL (RFC 6454, section 4): its first part up to the path.
fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']);
    end.map_or(url, |end| &url[..authority + end])
}

fn session_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let cookie = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .map(str::trim)
        .find(|cookie| cookie.starts_with("JSESSIONID="))?;
    HeaderValue::try_from(format!("{cookie}; path=/")).ok()
}

#[cfg(test)]
mod tests {
    use super::origin_of;

    #[test]
    fn the_origin_of_a_page_is_its_url_without_the_path() {
        for (url, origin) in [
            ("https://a.example/b/c?d", "https://a.example"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("https://a.example", "https://a.example"),
            ("https://a.example?b/c", "https://a.example"),
            ("https://a.example#https://b.example/", "https://a.example"),
            ("about:blank", "about:blank"),
            ("", ""),
        ] {
            assert_eq!(origin_of(url), origin, "{url}");
        }
    }
}
