//! TLS to clients (RFC 8446, RFC 5246), with a certificate that may be replaced meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::exit::Failure;
use shared::metrics::Metrics;
use shared::reload::Reload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config::TlsFiles;

/// The largest file that is read: chains have a few KiB.
const LARGEST: u64 = 1 << 20;

/// Octets that may wait in a connection to be encrypted and written, beside those that
/// [`WRITE_BUFFER`](crate::websocket::WRITE_BUFFER) holds. The library's own bound is twice that.
const UNWRITTEN: usize = 32 << 10;

/// How long, and for how many octets, a client that was refused may still send: while it does,
/// closing would take the answer from it.
const FAREWELL: Duration = Duration::from_secs(1);
const SCRAP: u64 = 64 << 10;

/// The answer to HTTP without TLS.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: application/json\r\ncontent-length: 105\r\nconnection: close\r\n\r\n\
    {\"error\":{\"code\":\"tls-required\",\"message\":\"This port speaks TLS only: connect with https:// or wss://.\"}}";

/// Encrypts connections.
pub(super) struct Tls(watch::Receiver<TlsAcceptor>);

impl Tls {
    /// Reads the files, and again at each SIGHUP until this is dropped. When they cannot be used
    /// then, the certificate stays that was there.
    ///
    /// # Errors
    /// [`Failure::Config`] when they cannot be used now.
    pub(super) fn open(files: &TlsFiles, metrics: &Metrics) -> Result<Self, Failure> {
        let mut reload = Reload::listen();
        let acceptor = acceptor(files).map_err(|error| Failure::Config(error.to_string()))?;
        let (sender, receiver) = watch::channel(acceptor);
        let (files, metrics) = (files.clone(), metrics.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = reload.asked() => read_anew(&files, &sender, &metrics).await,
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Does the handshake. Who speaks HTTP instead is told what is wrong.
    ///
    /// # Errors
    /// [`io::Error`] when it fails. The caller bounds the time.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first[0].is_ascii_uppercase() {
            stream.write_all(NO_TLS).await?;
            say_farewell(stream).await;
            return Err(io::Error::other("HTTP without TLS"));
        }
        let acceptor = self.0.borrow().clone();
        let accepting = acceptor.accept_with(stream, |session| {
            session.set_buffer_limit(Some(UNWRITTEN));
        });
        match accepting.into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                say_farewell(stream).await;
                Err(error)
            }
        }
    }
}

async fn read_anew(files: &TlsFiles, certificate: &watch::Sender<TlsAcceptor>, metrics: &Metrics) {
    let files = files.clone();
    let read = spawn_blocking(move || acceptor(&files)).await;
    let outcome = match read {
        Ok(Ok(acceptor)) => {
            certificate.send_replace(acceptor);
            tracing::info!("the certificate was read anew");
            "ok"
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the certificate that was there stays in use");
            "failed"
        }
        Err(error) => {
            tracing::error!(%error, "the certificate that was there stays in use");
            "failed"
        }
    };
    let reloads = &metrics.gateway.tls_reloads;
    reloads.with_label_values(&[outcome]).inc();
}

/// Ends what is written, and reads past what still comes.
async fn say_farewell(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(SCRAP), &mut tokio::io::sink()).await
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// Why a certificate and its key cannot be used. It holds nothing of the key.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("{flag} {path} cannot be read: {reason}")]
    Unreadable {
        flag: &'static str,
        path: String,
        reason: io::Error,
    },
    #[error("{flag} {path} is no file in PEM: {reason}")]
    NoPem {
        flag: &'static str,
        path: String,
        reason: &'static str,
    },
    #[error("--tls-cert {0} has no certificate")]
    NoCertificate(String),
    #[error("--tls-key {0} has no private key")]
    NoKey(String),
    #[error("--tls-key {0} is encrypted; write it without a passphrase: openssl pkey -in … -out …")]
    Encrypted(String),
    #[error("--tls-key {key} is not the key of the first certificate of --tls-cert {certificate}")]
    Another { key: String, certificate: String },
    #[error("--tls-cert {certificate} with --tls-key {key} cannot be used: {reason}")]
    Unusable {
        certificate: String,
        key: String,
        reason: rustls::Error,
    },
}

/// Reads both files. The keys of session tickets are new with them: who comes back then sees the new
/// certificate too.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, CertificateError> {
    let certificate = files.certificate.display().to_string();
    let key = files.key.display().to_string();
    let text = read("--tls-cert", &files.certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| no_pem("--tls-cert", &certificate, &error))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(certificate));
    }
    let text = read("--tls-key", &files.key)?;
    let encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    if encrypted
        .iter()
        .any(|mark| text.windows(mark.len()).any(|part| part == *mark))
    {
        return Err(CertificateError::Encrypted(key));
    }
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey(key.clone()),
        error => no_pem("--tls-key", &key, &error),
    })?;
    let unusable = |reason| match reason {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Another {
                key: key.clone(),
                certificate: certificate.clone(),
            }
        }
        reason => CertificateError::Unusable {
            certificate: certificate.clone(),
            key: key.clone(),
            reason,
        },
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(reason) => Err(CertificateError::Unreadable {
            flag,
            path: path.display().to_string(),
            reason,
        }),
    }
}

/// What the library says of a broken file quotes it, and it may be a key.
fn no_pem(flag: &'static str, path: &str, error: &pem::Error) -> CertificateError {
    CertificateError::NoPem {
        flag,
        path: path.to_owned(),
        reason: match error {
            pem::Error::MissingSectionEnd { .. } => "an END line is missing",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "what is between its lines is no base64",
            _ => "it cannot be understood",
        },
    }
}
