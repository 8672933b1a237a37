//! Where a request may have a token: its header, a cookie, its query.

use std::borrow::Cow;

use hyper::Request;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN};

use super::Token;

/// The token of an `Authorization` (RFC 6750, section 2.1), as a header of HTTP or of CONNECT.
pub(crate) fn bearer(value: &str) -> Option<Token> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Token::new(token))
}

/// The token of a request: in its header, else in this cookie, else in this parameter.
pub(super) fn token<B>(
    request: &Request<B>,
    cookie: Option<&str>,
    query: Option<&str>,
) -> Option<Token> {
    let headers = request.headers();
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(bearer);
    header
        .or_else(|| {
            let cookie = cookie.filter(|_| is_from_here(request.uri().path(), headers))?;
            in_cookie(headers, cookie)
        })
        .or_else(|| {
            let name = query?;
            let query = request.uri().query()?.as_bytes();
            form_urlencoded::parse(query)
                .find(|(found, value)| found == name && !value.is_empty())
                .map(|(_, value)| Token::new(&value))
        })
}

/// A query without the parameter that may have the token.
pub(super) fn without<'a>(query: &'a str, parameter: Option<&str>) -> Cow<'a, str> {
    let Some(parameter) = parameter else {
        return Cow::Borrowed(query);
    };
    let is_other = |pair: &&str| {
        let name = form_urlencoded::parse(pair.as_bytes()).next();
        name.is_none_or(|(name, _)| name != parameter)
    };
    let others: Vec<&str> = query.split('&').filter(is_other).collect();
    Cow::Owned(others.join("&"))
}

/// Whether a browser has said which page a request is from, which is judged then, or need not.
/// SockJS has ways that any page can use, as a script or in a frame, and old browsers say nothing
/// then, but send cookies.
fn is_from_here(path: &str, headers: &HeaderMap) -> bool {
    !path.starts_with("/sockjs")
        || headers.contains_key(ORIGIN)
        || headers.contains_key("sec-fetch-site")
}

/// The value of a cookie (RFC 6265, section 5.4).
fn in_cookie(headers: &HeaderMap, name: &str) -> Option<Token> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(found, value)| (found, value.trim_matches('"')))
        .find(|(found, value)| *found == name && !value.is_empty())
        .map(|(_, value)| Token::new(value))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::{Token, token, without};

    fn found(path: &str, headers: &[(&str, &str)]) -> Option<Token> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        token(&request.body(()).unwrap(), Some("auth"), Some("token"))
    }

    #[test]
    fn a_header_goes_before_a_cookie_and_a_cookie_before_the_query() {
        let header = ("Authorization", "bearer  h ");
        let cookie = ("Cookie", "a=b; auth=c; auth=d");
        let of = |text| Some(Token::new(text));
        assert_eq!(found("/ws?token=q", &[header, cookie]), of("h"));
        assert_eq!(found("/ws?token=q", &[cookie]), of("c"));
        assert_eq!(found("/ws?a=b&token=q%2E", &[]), of("q."));
        assert_eq!(
            found("/ws?token=&xtoken=q", &[("Cookie", "auth=;xauth=c")]),
            None
        );
        assert_eq!(
            found("/ws?token=q", &[("Authorization", "Basic a2lt")]),
            of("q")
        );
        assert_eq!(found("/ws", &[("Authorization", "Bearer ")]), None);
        assert_eq!(found("/ws?token=q", &[("Cookie", "auth=\"\"")]), of("q"));
    }

    #[test]
    fn a_cookie_does_not_count_where_nobody_says_which_page_it_is_from() {
        let cookie = ("Cookie", "auth=c");
        let jsonp = "/sockjs/000/abc/jsonp?c=f";
        assert_eq!(found(jsonp, &[cookie]), None);
        assert!(found(jsonp, &[cookie, ("Sec-Fetch-Site", "same-origin")]).is_some());
        assert!(found(jsonp, &[cookie, ("Origin", "https://a.example")]).is_some());
        assert!(found("/ws", &[cookie]).is_some());
    }

    #[test]
    fn the_query_is_passed_on_without_the_token() {
        let rest = |query| without(query, Some("token")).into_owned();
        assert_eq!(rest("limit=1&token=s3cret&before=x"), "limit=1&before=x");
        assert_eq!(rest("to%6ben=s3cret"), "");
        assert_eq!(rest("tokens=1"), "tokens=1");
        assert_eq!(without("token=1", None), "token=1");
    }
}
