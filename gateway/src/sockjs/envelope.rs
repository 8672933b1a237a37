//! What each transport puts around a frame, and before the first.

use bytes::Bytes;

use super::frame::in_script;
use crate::transport::TransportName;

/// Octets that a stream begins with, for browsers that show nothing of a shorter one.
const XHR_PRELUDE: usize = 2048;

/// The least length of the page that htmlfile begins with, for the same reason.
const PAGE_PRELUDE: usize = 1024;

/// How one receiver's frames are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// Each frame is a line, and the only one of its answer.
    Xhr,
    /// Each frame is a line.
    XhrStreaming,
    /// Each frame is an event.
    EventSource,
    /// Each frame is a script in a page.
    HtmlFile(Callback),
    /// The only frame of the answer is a script.
    Jsonp(Callback),
}

impl Envelope {
    /// The envelope of a transport. Where it needs a callback, that comes from the query.
    pub(super) fn new(name: TransportName, query: &str) -> Result<Self, CallbackError> {
        Ok(match name {
            TransportName::XhrStreaming => Self::XhrStreaming,
            TransportName::EventSource => Self::EventSource,
            TransportName::HtmlFile => Self::HtmlFile(Callback::in_query(query)?),
            TransportName::Jsonp => Self::Jsonp(Callback::in_query(query)?),
            _ => Self::Xhr,
        })
    }

    /// The answer's MIME type.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Xhr | Self::XhrStreaming | Self::Jsonp(_) => {
                "application/javascript; charset=UTF-8"
            }
            Self::EventSource => "text/event-stream",
            Self::HtmlFile(_) => "text/html; charset=UTF-8",
        }
    }

    /// Whether an answer carries one frame only.
    pub(super) fn is_polling(&self) -> bool {
        matches!(self, Self::Xhr | Self::Jsonp(_))
    }

    /// What comes before the first frame. It does not count against the stream's limit.
    pub(super) fn prelude(&self) -> Option<Bytes> {
        match self {
            Self::Xhr | Self::Jsonp(_) => None,
            Self::XhrStreaming => Some(format!("{}\n", "h".repeat(XHR_PRELUDE)).into()),
            Self::EventSource => Some(Bytes::from_static(b"\r\n")),
            Self::HtmlFile(Callback(callback)) => {
                let page = format!(
                    r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{callback};
    c.start();
    function p(d) {{c.message(d);}};
    window.onload = function() {{c.stop();}};
  </script>"#
                );
                Some(format!("{page:<PAGE_PRELUDE$}\r\n\r\n").into())
            }
        }
    }

    /// A frame as it is written. No frame has a line end.
    pub(super) fn wrap(&self, frame: &str) -> Bytes {
        match self {
            Self::Xhr | Self::XhrStreaming => format!("{frame}\n"),
            Self::EventSource => format!("data: {frame}\r\n\r\n"),
            Self::HtmlFile(_) => {
                let frame = in_script(frame);
                format!("<script>\np({frame});\n</script>\r\n")
            }
            // The comment keeps the callback's name from being the answer's first octets, which
            // plug-ins would take for a file of their kind.
            Self::Jsonp(Callback(callback)) => {
                format!("/**/{callback}({});\r\n", in_script(frame))
            }
        }
        .into()
    }
}

/// The name of a function in the client's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Callback(Box<str>);

impl Callback {
    /// The longest name.
    const LONGEST: usize = 128;

    fn in_query(query: &str) -> Result<Self, CallbackError> {
        let (_, name) = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "c" || name == "callback")
            .filter(|(_, name)| !name.is_empty())
            .ok_or(CallbackError::Missing)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.len() > Self::LONGEST || !name.bytes().all(is_plain) {
            return Err(CallbackError::Invalid);
        }
        Ok(Self((*name).into()))
    }
}

/// Why a query has no callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallbackError {
    #[error("\"callback\" parameter required")]
    Missing,
    #[error("invalid \"callback\" parameter")]
    Invalid,
}

#[cfg(test)]
mod tests {
    use super::{CallbackError, Envelope};
    use crate::transport::TransportName;

    fn envelope(name: TransportName, query: &str) -> Envelope {
        Envelope::new(name, query).unwrap()
    }

    #[test]
    fn each_transport_writes_a_frame_in_its_own_way() {
        for (name, written) in [
            (TransportName::Xhr, "a[\"x\"]\n"),
            (TransportName::XhrStreaming, "a[\"x\"]\n"),
            (TransportName::EventSource, "data: a[\"x\"]\r\n\r\n"),
            (
                TransportName::HtmlFile,
                "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n",
            ),
            (TransportName::Jsonp, "/**/_jp.a1(\"a[\\\"x\\\"]\");\r\n"),
        ] {
            assert_eq!(envelope(name, "c=_jp.a1").wrap("a[\"x\"]"), written);
        }
    }

    #[test]
    fn a_stream_begins_with_enough_to_be_shown() {
        let prelude = |name| envelope(name, "t=1&callback=%63b").prelude();
        assert_eq!(prelude(TransportName::Xhr), None);
        assert_eq!(prelude(TransportName::Jsonp), None);
        assert_eq!(prelude(TransportName::EventSource).unwrap(), "\r\n");
        let lines = prelude(TransportName::XhrStreaming).unwrap();
        assert_eq!(lines, format!("{}\n", "h".repeat(2048)));
        let page = prelude(TransportName::HtmlFile).unwrap();
        assert!(page.len() > 1024 && page.ends_with(b"\r\n\r\n"));
        assert!(String::from_utf8_lossy(&page).contains("var c = parent.cb;"));
    }

    #[test]
    fn a_callback_is_a_name_and_nothing_else() {
        for query in ["", "c=", "d=x", "callback"] {
            let error = Envelope::new(TransportName::Jsonp, query).unwrap_err();
            assert_eq!(error, CallbackError::Missing, "{query}");
        }
        let long = format!("c={}", "a".repeat(129));
        for query in [
            "c=%20", "c=*", "c=abc(", "c=abc%28", "c=a%3Cb", "c=ü", &long,
        ] {
            let error = Envelope::new(TransportName::HtmlFile, query).unwrap_err();
            assert_eq!(error, CallbackError::Invalid, "{query}");
        }
    }
}
