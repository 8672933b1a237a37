//! Keys and tokens, good and bad ones, and a server that publishes keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Who signs tokens: a key, and what a gateway checks them by.
///
/// ```no_run
/// # use harness::token::Issuer;
/// # use serde_json::json;
/// let issuer = Issuer::es256();
/// let flags = issuer.flags(); // --auth jwt --jwt-key …
/// let token = issuer.token(json!({"sub": "kim", "rooms": {"*": "rw"}}));
/// ```
pub struct Issuer {
    signing: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
    public: String,
    pair: Option<KeyPair>,
}

impl Issuer {
    /// A secret that is shared with the gateway.
    pub fn hs256() -> Self {
        let secret: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(40)
            .collect();
        Self {
            signing: EncodingKey::from_secret(secret.as_bytes()),
            algorithm: Algorithm::HS256,
            kid: None,
            public: secret,
            pair: None,
        }
    }

    /// RSA with 2048 bits.
    pub fn rs256() -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        let signing = |pem: &[u8]| EncodingKey::from_rsa_pem(pem);
        Self::from_pair(pair.expect("RSA is there"), Algorithm::RS256, signing)
    }

    /// The elliptic curve P-256.
    pub fn es256() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        let signing = |pem: &[u8]| EncodingKey::from_ec_pem(pem);
        Self::from_pair(pair.expect("P-256 is there"), Algorithm::ES256, signing)
    }

    /// Ed25519.
    pub fn eddsa() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519);
        let signing = |pem: &[u8]| EncodingKey::from_ed_pem(pem);
        Self::from_pair(pair.expect("Ed25519 is there"), Algorithm::EdDSA, signing)
    }

    fn from_pair(
        pair: KeyPair,
        algorithm: Algorithm,
        signing: impl Fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        Self {
            signing: signing(pair.serialize_pem().as_bytes()).expect("the key was just made"),
            algorithm,
            kid: None,
            public: pair.public_key_pem(),
            pair: Some(pair),
        }
    }

    /// The same key, with this id in tokens and in what is published.
    pub fn named(self, kid: &str) -> Self {
        Self {
            kid: Some(kid.to_owned()),
            ..self
        }
    }

    /// What a gateway is started with to trust this key.
    pub fn flags(&self) -> [&str; 4] {
        ["--auth", "jwt", "--jwt-key", &self.public]
    }

    /// What the gateway checks tokens by: the public key as PEM, or the secret.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The private key as PEM, which a gateway must not be given.
    ///
    /// # Panics
    /// When it is a secret.
    pub fn private(&self) -> String {
        self.key_pair().serialize_pem()
    }

    /// The pair, to make certificates of.
    ///
    /// # Panics
    /// When it is a secret.
    pub fn key_pair(&self) -> &KeyPair {
        self.pair.as_ref().expect("a secret has no two halves")
    }

    /// What the gateway checks tokens by, as a JWK.
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.signing, self.algorithm);
        let mut jwk = serde_json::to_value(jwk.expect("the key is good")).expect("it is JSON");
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// A token for this user, for an hour.
    pub fn user(&self, name: &str) -> String {
        self.token(json!({"sub": name}))
    }

    /// A token with these claims. `exp` is in an hour where they say nothing, and left out where it
    /// is `null`.
    pub fn token(&self, claims: Value) -> String {
        let mut header = json!({"typ": "JWT", "alg": self.algorithm});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.sign(&header, claims)
    }

    /// The same with any header. The signature is by this key and its algorithm, whatever the header
    /// says.
    pub fn sign(&self, header: &Value, claims: Value) -> String {
        let message = unsigned(header, claims);
        let signature = crypto::sign(message.as_bytes(), &self.signing, self.algorithm)
            .expect("the key is one of its algorithm");
        format!("{message}.{signature}")
    }
}

/// Header and claims, with no signature and no point before one. `exp` is as [`Issuer::token`] says.
pub fn unsigned(header: &Value, mut claims: Value) -> String {
    if let Some(claims) = claims.as_object_mut() {
        let exp = claims.entry("exp").or_insert_with(|| json!(now() + 3600));
        if exp.is_null() {
            claims.remove("exp");
        }
    }
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(&claims))
}

/// A message signed with a secret by HS256.
pub fn hs256(message: &str, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("any octets are a secret"))
}

/// Seconds since 1970, as claims have them.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// How a [`KeyServer`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// With the keys.
    Answer,
    /// With this status and body.
    Other(u16, String),
    /// Not at all.
    Hang,
    /// With octets that never end.
    Flood,
}

/// Publishes keys over HTTP, as `--jwt-jwks-url` wants them, until it is dropped.
pub struct KeyServer {
    url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    requests: AtomicUsize,
    answers: Mutex<(String, Behaviour)>,
}

impl KeyServer {
    /// A server on a free port with the keys of these.
    pub async fn start(issuers: &[&Issuer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("the loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            requests: AtomicUsize::new(0),
            answers: Mutex::new((set(issuers), Behaviour::Answer)),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            url: format!("http://{address}/keys"),
            state,
            task,
        }
    }

    /// What a gateway is started with to use it.
    pub fn flags(&self) -> [&str; 4] {
        ["--auth", "jwt", "--jwt-jwks-url", &self.url]
    }

    /// Where the keys are.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes the keys of these, and no others.
    pub fn publish(&self, issuers: &[&Issuer]) {
        self.answers().0 = set(issuers);
    }

    /// Answers like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.answers().1 = behaviour;
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, (String, Behaviour)> {
        let answers = self.state.answers.lock();
        answers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn set(issuers: &[&Issuer]) -> String {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Answers one request; a client that goes meanwhile ends it.
async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    let (keys, behaviour) = state
        .answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let (status, body) = match behaviour {
        Behaviour::Answer => (200, keys),
        Behaviour::Other(status, body) => (status, body),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b' '; 1 << 16]).await.ok()?;
            }
        }
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok()
}
