//! A small HTTP client, for the few things that a gateway asks others: keys, and the application's
//! back end. Whatever it is answered is bounded in octets and in time.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Requests at one time; further ones wait, within their own deadline.
const AT_ONE_TIME: usize = 64;

/// Connections that are kept for the next request, for each host.
const KEPT: usize = 16;

/// How long they are kept. Servers close what is silent, mostly after a minute.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The URL of something to fetch: `http` or `https`, without a user, a password or a fragment.
///
/// Neither `Debug` nor `Display` shows its query, where people put secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Whether what is fetched can be read and changed on its way: it is not encrypted, and goes to
    /// another machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        self.0.scheme_str() != Some("https") && !is_loopback
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || text.contains('#') {
            return Err(UrlError::Malformed);
        }
        if authority.as_str().contains('@') {
            return Err(UrlError::Password);
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}{}", self.0.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no URL to fetch. It does not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is something else.
    #[error("a URL is http://HOST/PATH or https://HOST/PATH")]
    Malformed,
    /// It names a user.
    #[error("a user or password in the URL is not supported")]
    Password,
}

/// How much an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the call to the last octet.
    pub deadline: Duration,
    /// Octets of its body.
    pub octets: usize,
}

/// What came back. A redirection is an answer like others: nothing follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// Why nothing came back. No text of these shows a query, a header or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It was not all there at the deadline.
    #[error("no answer in time")]
    Late,
    /// The body is larger than allowed.
    #[error("the answer is larger than {0} octets")]
    TooLarge(usize),
    /// There was no connection, or what came is no HTTP.
    #[error("{0}")]
    Failed(String),
}

/// The client. Connections are kept for a while, and so are few enough.
pub struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    permits: Semaphore,
}

impl Fetch {
    /// A client that trusts what the system does; `SSL_CERT_FILE` and `SSL_CERT_DIR` name other
    /// certificate authorities. Where there are none, no `https` can be fetched.
    pub fn new() -> Self {
        let config = || {
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider has the ciphers of TLS 1.2 and 1.3")
        };
        let config = match config().with_native_roots() {
            Ok(rooted) => rooted.with_no_client_auth(),
            Err(reason) => {
                tracing::warn!(%reason, "no certificate authority is trusted: https will fail");
                config()
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth()
            }
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .pool_max_idle_per_host(KEPT)
            .build(connector);
        Self {
            client,
            permits: Semaphore::new(AT_ONE_TIME),
        }
    }

    /// GET.
    ///
    /// # Errors
    /// [`FetchError`] when there is no whole answer within the bounds.
    pub async fn get(&self, url: &Url, bounds: Bounds) -> Result<Answer, FetchError> {
        self.ask(Method::GET, url, HeaderMap::new(), Bytes::new(), bounds)
            .await
    }

    /// POST of JSON, with these headers beside its own.
    ///
    /// # Errors
    /// [`FetchError`] when there is no whole answer within the bounds.
    pub async fn post_json(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        body: &serde_json::Value,
        bounds: Bounds,
    ) -> Result<Answer, FetchError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(body.to_string());
        self.ask(Method::POST, url, headers, body, bounds).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Answer, FetchError> {
        let mut request = Request::new(Full::new(body));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("roomcast"));
        *request.method_mut() = method;
        *request.uri_mut() = url.0.clone();
        *request.headers_mut() = headers;
        let answered = async {
            let _permit = self.permits.acquire().await;
            let answer = self.client.request(request).await;
            let (head, body) = answer.map_err(|error| failed(&error))?.into_parts();
            Ok(Answer {
                status: head.status,
                body: gather(body, bounds.octets).await?,
            })
        };
        timeout(bounds.deadline, answered)
            .await
            .unwrap_or(Err(FetchError::Late))
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Self::new()
    }
}

async fn gather(mut body: Incoming, limit: usize) -> Result<Vec<u8>, FetchError> {
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if octets.len() + data.len() > limit {
            return Err(FetchError::TooLarge(limit));
        }
        octets.extend_from_slice(data);
    }
    Ok(octets)
}

/// An error with its causes, of which the last says most.
fn failed(error: &dyn Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    FetchError::Failed(text)
}

#[cfg(test)]
mod tests {
    use super::{Url, UrlError};

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        let url: Url = "https://id.example:8443/keys?key=s3cret".parse().unwrap();
        assert_eq!(url.to_string(), "https://id.example:8443/keys");
        assert_eq!(format!("{url:?}"), "https://id.example:8443/keys");
        let named: Result<Url, _> = "https://kim:s3cret@id.example/".parse();
        assert_eq!(named.unwrap_err(), UrlError::Password);
    }

    #[test]
    fn what_is_no_http_is_no_url() {
        for text in [
            "",
            "/keys",
            "id.example",
            "ftp://id.example/",
            "http:///x",
            "https://a/#b",
        ] {
            assert_eq!(
                text.parse::<Url>().unwrap_err(),
                UrlError::Malformed,
                "{text}"
            );
        }
    }

    #[test]
    fn only_what_leaves_the_machine_in_the_clear_is_exposed() {
        for (text, exposed) in [
            ("https://id.example/", false),
            ("http://localhost:1/", false),
            ("http://127.3.2.1/", false),
            ("http://[::1]:8080/", false),
            ("http://id.example/", true),
            ("http://10.0.0.1/", true),
            ("http://localhost.example/", true),
            ("http://[::2]/", true),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().is_exposed(), exposed, "{text}");
        }
    }
}
