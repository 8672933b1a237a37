//! SockJS's URLs (protocol 0.3.3, sections "Static URLs" and "Session URLs").

use hyper::Method;

use crate::transport::TransportName;

/// Octets of a session's id. Clients send about ten.
const LONGEST_ID: usize = 256;

/// What a path below an endpoint's prefix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// The prefix itself.
    Greeting,
    Info,
    Iframe,
    /// A WebSocket without SockJS's frames.
    RawWebSocket,
    /// A WebSocket with them. It is a session of its own, whatever the id.
    WebSocket,
    /// Where the session's frames are read.
    Receive(&'a str, TransportName),
    /// Where the session's messages are sent.
    Send(&'a str, Sending),
}

/// How messages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Xhr,
    Jsonp,
}

impl<'a> Route<'a> {
    /// The route of what follows the prefix in a path; `None` where there is nothing.
    ///
    /// The server's part of a path is for load balancers; neither it nor the session's may be empty
    /// or have a dot.
    pub(super) fn parse(rest: &'a str) -> Option<Self> {
        match rest {
            "" | "/" => return Some(Self::Greeting),
            "/info" => return Some(Self::Info),
            "/websocket" => return Some(Self::RawWebSocket),
            _ => {}
        }
        let rest = rest.strip_prefix('/')?;
        if let Some(version) = rest
            .strip_prefix("iframe")
            .and_then(|rest| rest.strip_suffix(".html"))
        {
            let is_plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.' | b'_');
            return version.bytes().all(is_plain).then_some(Self::Iframe);
        }
        let mut parts = rest.split('/');
        let (server, session, transport) = (parts.next()?, parts.next()?, parts.next()?);
        let is_id = |part: &str| !part.is_empty() && !part.contains('.');
        if parts.next().is_some() || !is_id(server) || !is_id(session) || session.len() > LONGEST_ID
        {
            return None;
        }
        Some(match transport {
            "websocket" => Self::WebSocket,
            "xhr" => Self::Receive(session, TransportName::Xhr),
            "xhr_streaming" => Self::Receive(session, TransportName::XhrStreaming),
            "eventsource" => Self::Receive(session, TransportName::EventSource),
            "htmlfile" => Self::Receive(session, TransportName::HtmlFile),
            "jsonp" => Self::Receive(session, TransportName::Jsonp),
            "xhr_send" => Self::Send(session, Sending::Xhr),
            "jsonp_send" => Self::Send(session, Sending::Jsonp),
            _ => return None,
        })
    }

    /// The method that does what the route is for, beside OPTIONS where [CORS](Self::has_preflight)
    /// asks first.
    pub(super) fn method(self) -> Method {
        match self {
            Self::Receive(_, TransportName::Xhr | TransportName::XhrStreaming) | Self::Send(..) => {
                Method::POST
            }
            _ => Method::GET,
        }
    }

    /// Whether browsers may ask by OPTIONS first.
    pub(super) fn has_preflight(self) -> bool {
        matches!(
            self,
            Self::Info
                | Self::Receive(_, TransportName::Xhr | TransportName::XhrStreaming)
                | Self::Send(_, Sending::Xhr)
        )
    }

    /// The methods as `Allow` lists them.
    pub(super) fn methods(self) -> &'static str {
        match (self.has_preflight(), self.method() == Method::POST) {
            (true, true) => "OPTIONS, POST",
            (true, false) => "OPTIONS, GET",
            (false, true) => "POST",
            (false, false) => "GET",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, Sending};
    use crate::transport::TransportName;

    #[test]
    fn each_path_of_the_protocol_has_its_route() {
        for (path, route) in [
            ("", Route::Greeting),
            ("/", Route::Greeting),
            ("/info", Route::Info),
            ("/iframe.html", Route::Iframe),
            ("/iframe-0.1.2abc-dirty.2144.html", Route::Iframe),
            ("/websocket", Route::RawWebSocket),
            ("/0/b/websocket", Route::WebSocket),
            ("/0/b/xhr", Route::Receive("b", TransportName::Xhr)),
            (
                "/abcdefgh_i-j%20/abcdefg_i-j%20/xhr_streaming",
                Route::Receive("abcdefg_i-j%20", TransportName::XhrStreaming),
            ),
            ("/0/b/xhr_send", Route::Send("b", Sending::Xhr)),
            ("/0/b/jsonp_send", Route::Send("b", Sending::Jsonp)),
        ] {
            assert_eq!(Route::parse(path), Some(route), "{path}");
        }
    }

    #[test]
    fn other_paths_have_none() {
        let long = format!("/0/{}/xhr", "a".repeat(257));
        for path in [
            "//",
            "///",
            "/a",
            "/a.html",
            "/a/a",
            "/a/a/",
            "/a/a/xhr/",
            "/a/a/a/xhr",
            "//a/xhr",
            "/a//xhr",
            "/a./a/xhr",
            "/a/a./xhr",
            "/./././xhr",
            "/iframe",
            "/iframe.htm",
            "/iframe.HTML",
            "/IFRAME.HTML",
            "/iframe-/.html",
            "/info/",
            "info",
            &long,
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
