//! How users get in: whom they trust, and what they prove who they are with.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use harness::token;
use serde_json::json;
use shared::exit::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::GatewayUrl;

/// How long a token that is signed here is good for, in seconds: longer than any load.
const LIFE: i64 = 7 * 24 * 3600;

/// The least octets of a secret that a gateway takes.
const MIN_SECRET: usize = 32;

/// What a connection runs on: TCP, or TLS on it.
pub(crate) trait Octets: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Octets for S {}

/// Flags of who users are and whom they trust.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PassArgs {
    /// Give each user a token, signed with this secret of the gateways' (HS256), that names it and
    /// allows everything in every room.
    #[arg(long, value_name = "KEY", requires = "gateways")]
    pub token_secret: Option<Secret>,

    /// Certificates in PEM of the authorities that users trust with wss://, such as
    /// /etc/ssl/certs/ca-certificates.crt.
    #[arg(long, value_name = "FILE", requires = "gateways")]
    pub ca: Option<PathBuf>,
}

/// What tokens are signed with. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Secret(Arc<str>);

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.len() {
            MIN_SECRET.. => Ok(Self(text.into())),
            _ => Err("a secret of at least 32 octets is needed, as gateways want it"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How users get in. Clones share what it holds; by default they say who they are and no more.
#[derive(Clone, Default)]
pub(crate) struct Pass {
    tls: Option<TlsConnector>,
    proof: Proof,
}

#[derive(Clone, Default)]
enum Proof {
    #[default]
    None,
    Secret(Secret),
    /// Tokens by whom they name.
    Given(Arc<HashMap<String, String>>),
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass(…)")
    }
}

impl Pass {
    /// What the flags say, for these gateways.
    ///
    /// # Errors
    /// [`Failure::Config`] when the file of authorities is none, or is missing where a gateway needs
    /// it.
    pub(crate) fn open(args: &PassArgs, gateways: &[GatewayUrl]) -> Result<Self, Failure> {
        let tls = match &args.ca {
            Some(path) => Some(trusting(path)?),
            None if gateways.iter().any(GatewayUrl::is_tls) => {
                let line = "wss:// needs --ca FILE, the certificates of whom to trust";
                return Err(Failure::Config(line.into()));
            }
            None => None,
        };
        let proof = match &args.token_secret {
            Some(secret) => Proof::Secret(secret.clone()),
            None => Proof::None,
        };
        Ok(Self { tls, proof })
    }

    /// Whom these servers' certificates are from, where they have any, and what tokens are signed with,
    /// where they want any.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn of(
        token_secret: Option<Secret>,
        ca: Option<PathBuf>,
        gateways: &[GatewayUrl],
    ) -> Result<Self, Failure> {
        Self::open(&PassArgs { token_secret, ca }, gateways)
    }

    /// The same with the tokens of a file, one a line, and the names in their `sub`: those of the
    /// first `users`.
    ///
    /// # Errors
    /// [`Failure::Config`] when the file cannot be read, a line is no token, two of them name the same
    /// user, or there are too few.
    pub(crate) fn with_tokens(
        self,
        path: &Path,
        users: usize,
    ) -> Result<(Self, Vec<String>), Failure> {
        let wrong = |what: &dyn fmt::Display| {
            Failure::Config(format!("--token-file {}: {what}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|reason| wrong(&reason))?;
        let lines = text.lines().map(str::trim).enumerate();
        let (mut tokens, mut names) = (HashMap::new(), Vec::new());
        for (at, token) in lines.filter(|(_, line)| !line.is_empty()).take(users) {
            let line = at + 1;
            let name = subject(token)
                .ok_or_else(|| wrong(&format_args!("line {line} is no token with a `sub`")))?;
            if tokens.insert(name.clone(), token.to_owned()).is_some() {
                return Err(wrong(&format_args!(
                    "line {line} names a user of another line"
                )));
            }
            names.push(name);
        }
        if names.len() < users {
            return Err(wrong(&format_args!(
                "{} tokens are fewer than --users",
                names.len()
            )));
        }
        let proof = Proof::Given(Arc::new(tokens));
        Ok((Self { proof, ..self }, names))
    }

    /// The token of this user, where it needs one.
    pub(crate) fn token(&self, user: &str) -> Option<String> {
        match &self.proof {
            Proof::None => None,
            Proof::Secret(Secret(secret)) => {
                let claims = json!({
                    "sub": user,
                    "exp": token::now() + LIFE,
                    "rooms": {"*": "rw"},
                });
                let message = token::unsigned(&json!({"typ": "JWT", "alg": "HS256"}), claims);
                Some(token::hs256(&message, secret.as_bytes()))
            }
            Proof::Given(tokens) => tokens.get(user).cloned(),
        }
    }

    /// What goes on over a connection to this gateway: TLS, where its URL says so.
    ///
    /// # Errors
    /// When the gateway is not who it should be, or speaks no TLS. There is no deadline here.
    pub(crate) async fn secure(
        &self,
        gateway: &GatewayUrl,
        stream: TcpStream,
    ) -> std::io::Result<Box<dyn Octets>> {
        match &self.tls {
            Some(tls) if gateway.is_tls() => {
                let name = ServerName::try_from(gateway.host().to_owned());
                let name = name.map_err(std::io::Error::other)?;
                Ok(Box::new(tls.connect(name, stream).await?))
            }
            _ => Ok(Box::new(stream)),
        }
    }
}

/// TLS with whoever these authorities certify.
fn trusting(path: &Path) -> Result<TlsConnector, Failure> {
    let wrong =
        |what: &dyn fmt::Display| Failure::Config(format!("--ca {}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|reason| wrong(&reason))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|reason| wrong(&reason))?;
        roots.add(certificate).map_err(|reason| wrong(&reason))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whom a token names. Whether that is true is for gateways to find out.
fn subject(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}
