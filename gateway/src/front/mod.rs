//! From a connection that was accepted to the octets and the address of a client.

mod forwarded;
mod proxy;
mod stream;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ipnet::IpNet;
use shared::exit::Failure;
use shared::metrics::Metrics;
use tokio::net::TcpStream;

pub use self::proxy::ProxyError;
pub use self::stream::Stream;
use self::tls::Tls;
use crate::config::FrontSettings;

/// What stands before the clients' octets.
pub struct Front {
    tls: Option<Tls>,
    trusted_proxies: Vec<IpNet>,
    proxy_protocol: bool,
}

/// Why a connection has come to nothing before its first request.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// It was closed without a word, as who only looks whether somebody listens does.
    #[error("the connection was closed without a word")]
    Silent,
    /// The proxy did not say whose it is.
    #[error("PROXY protocol: {0}")]
    Proxy(#[from] ProxyError),
    /// The handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

impl FrontError {
    /// The value of the metric label `reason`; `None` is no failure.
    pub(crate) fn label(&self) -> Option<&'static str> {
        match self {
            Self::Silent => None,
            Self::Proxy(_) => Some("proxy"),
            Self::Tls(_) => Some("tls"),
        }
    }
}

impl Front {
    /// Reads the files that the settings name. To be called inside the runtime.
    ///
    /// # Errors
    /// [`Failure::Config`] when they make no sense.
    pub fn open(settings: &FrontSettings, metrics: &Metrics) -> Result<Self, Failure> {
        if let Some(all) = settings
            .trusted_proxies
            .iter()
            .find(|network| network.prefix_len() == 0)
        {
            tracing::warn!("--trusted-proxy {all} lets every client name any address as its own");
        }
        let tls = settings.tls.as_ref();
        Ok(Self {
            tls: tls.map(|files| Tls::open(files, metrics)).transpose()?,
            trusted_proxies: settings.trusted_proxies.clone(),
            proxy_protocol: settings.proxy_protocol,
        })
    }

    /// The scheme of the URLs that clients use.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether an address is a trusted proxy's, so that many clients may come from it.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Where the client of a connection is that came from `peer`: what a trusted proxy says by the
    /// PROXY protocol where that is on, else `peer`, as IPv4 where it is that.
    ///
    /// # Errors
    /// [`FrontError`] when the proxy does not say it. The caller bounds the time.
    pub async fn origin(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, FrontError> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.proxy_protocol || !self.is_proxy(peer.ip()) {
            return Ok(peer);
        }
        is_there(stream, |error| ProxyError::Broken(error).into()).await?;
        Ok(proxy::read(stream).await?.unwrap_or(peer))
    }

    /// Does the handshake, where there is to be one, after [`Front::origin`].
    ///
    /// # Errors
    /// [`FrontError`] when it fails. The caller bounds the time.
    pub async fn secure(&self, stream: TcpStream) -> Result<Stream, FrontError> {
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        is_there(&stream, FrontError::Tls).await?;
        let stream = tls.accept(stream).await.map_err(FrontError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// Where the client of a request is whose connection came from `address`, as [`Front::origin`]
    /// gave it: what trusted proxies say in `X-Forwarded-For`.
    pub fn client(&self, address: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.is_proxy(address.ip()) {
            return address;
        }
        forwarded::client(address, headers, |ip| self.is_proxy(ip))
    }
}

/// Waits for the first octet, which is left where it is.
async fn is_there(
    stream: &TcpStream,
    broken: impl FnOnce(io::Error) -> FrontError,
) -> Result<(), FrontError> {
    match stream.peek(&mut [0]).await {
        Ok(0) => Err(FrontError::Silent),
        Ok(_) => Ok(()),
        Err(error) => Err(broken(error)),
    }
}
