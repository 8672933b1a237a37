//! A connection that whoever uses it drives. The client library's has a task of its own, so that
//! each command wakes three; here the answer wakes the one that waits for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, RedisResult};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::packed::Packed;

/// What is read at a time, in octets, and what is kept for it.
const READ: usize = 8 << 10;
const KEPT: usize = 64 << 10;

/// The connection.
pub(super) struct Wire {
    stream: Stream,
    incoming: BytesMut,
}

type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Duplex for S {}

impl Wire {
    /// Connects as `info` says. The client library says who we are.
    ///
    /// # Errors
    /// [`redis::RedisError`] as the library's own connections give it.
    pub(super) async fn open(info: &ConnectionInfo) -> RedisResult<Self> {
        let stream = Lent(Arc::new(Mutex::new(Some(connect(info).await?))));
        let config = AsyncConnectionConfig::new();
        let settings = info.redis_settings();
        let introduced =
            MultiplexedConnection::new_with_config(settings, stream.clone(), config).await?;
        drop(introduced);
        let stream = stream.lock().take().ok_or_else(closed)?;
        Ok(Self {
            stream,
            incoming: BytesMut::new(),
        })
    }

    /// Sends commands. Nothing bounds how long that takes.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn send(&mut self, commands: &Packed) -> RedisResult<()> {
        self.stream.write_all(commands.octets()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Waits until more has come. Safe to cancel.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn receive(&mut self) -> RedisResult<()> {
        if self.incoming.is_empty() && self.incoming.capacity() > KEPT {
            self.incoming = BytesMut::new();
        }
        self.incoming.reserve(READ);
        if self.stream.read_buf(&mut self.incoming).await? == 0 {
            return Err(closed());
        }
        Ok(())
    }

    /// What has come and was not taken.
    pub(super) fn incoming(&mut self) -> &mut BytesMut {
        &mut self.incoming
    }
}

async fn connect(info: &ConnectionInfo) -> RedisResult<Stream> {
    let (host, port, encrypted) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        } => (host, *port, true),
        _ => {
            let line = "TLS without checks is not built in";
            return Err((ErrorKind::InvalidClientConfig, line).into());
        }
    };
    let addresses = lookup_host((host.as_str(), port)).await?;
    let attempts: Vec<_> = addresses
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    }
    let (socket, _) = select_ok(attempts).await?;
    socket.set_nodelay(true)?;
    if !encrypted {
        return Ok(Box::new(socket));
    }
    let connector = TlsConnector::from(Arc::new(tls()?));
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(connector.connect(name, socket).await?))
}

/// What the client library does with the same URL: the system's authorities are believed.
fn tls() -> RedisResult<ClientConfig> {
    let mut found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.pop() {
        return Err(io::Error::other(error).into());
    }
    let mut authorities = RootCertStore::empty();
    for certificate in found.certs {
        authorities.add(certificate).map_err(io::Error::other)?;
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(authorities)
        .with_no_client_auth())
}

fn closed() -> redis::RedisError {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection is closed").into()
}

/// A stream that the library uses while it introduces us, and gives back.
#[derive(Clone)]
struct Lent(Arc<Mutex<Option<Stream>>>);

impl Lent {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        poll: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.lock() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, octets))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}
