//! The server that is attacked.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Authority, Mongo, Process, Redis, token};
use serde_json::json;
use shared::exit::Failure;
use tempfile::TempDir;
use tokio::net::lookup_host;

use super::kind::Kind;
use crate::chaos::programs::Programs;
use crate::config::{AttackArgs, GatewayUrl, Program};
use crate::pass::{Pass, Secret};

/// A server, and what it needs. All that was started for it ends when this is dropped.
pub(super) struct Target {
    pub(super) gateway: GatewayUrl,
    pub(super) address: SocketAddr,
    /// How honest users get in.
    pub(super) pass: Pass,
    /// Tokens that must let nobody in.
    pub(super) bad_tokens: Vec<String>,
    /// Its process, where that runs here.
    pub(super) pid: Option<u32>,
    started: Option<Started>,
}

/// What is started for an attack.
struct Started {
    server: Process,
    _persister: Option<Process>,
    _backends: Option<(Redis, Mongo)>,
    _data: TempDir,
    _authority: Option<Authority>,
}

/// What the tokens of honest users are signed with, and what others are.
const SECRET: &str = "the key of a server under attack by bad tokens";
const FORGED: &str = "a key that the server under attack has never seen";

/// Octets of a token that is signed well, and is larger than CONNECT may be.
const HUGE: usize = 12 << 10;

impl Target {
    /// A server that somebody else has started.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when it has no address.
    pub(super) async fn given(
        url: &GatewayUrl,
        pid: Option<u32>,
        pass: Pass,
    ) -> Result<Self, Failure> {
        let unknown = || Failure::Unavailable(format!("--url: {} has no address", url.as_str()));
        let mut found = lookup_host(url.authority()).await.map_err(|_| unknown())?;
        Ok(Self {
            gateway: url.clone(),
            address: found.next().ok_or_else(unknown)?,
            pass,
            bad_tokens: bad_tokens(FORGED),
            pid,
            started: None,
        })
    }

    /// Starts the server that the flags name: with TLS, or with tokens, where that is attacked.
    ///
    /// # Errors
    /// [`Failure::Other`] when there is no folder for its data.
    ///
    /// # Panics
    /// When a process does not start.
    pub(super) async fn start(
        kind: Kind,
        args: &AttackArgs,
        programs: &Programs,
    ) -> Result<Self, Failure> {
        let data = TempDir::with_prefix("roomcast-attack-");
        let data = data.map_err(|error| Failure::Other(format!("a folder for data: {error}")))?;
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut flags: Vec<String> = ports.map(String::from).into();
        let authority = (kind == Kind::TlsHalf).then(Authority::new);
        if let Some(authority) = &authority {
            let certified = authority.certify("server", &["127.0.0.1"]);
            let path = |path: &Path| path.to_string_lossy().into_owned();
            flags.extend(["--tls-cert".into(), path(&certified.certificate)]);
            flags.extend(["--tls-key".into(), path(&certified.key)]);
        }
        let secret = (kind == Kind::BadTokens).then_some(SECRET);
        if let Some(secret) = secret {
            flags.extend(["--auth", "jwt", "--jwt-key", secret].map(String::from));
        }
        flags.extend(args.server_flags.iter().cloned());
        let (server, persister, backends) = match args.server {
            Program::Roomcast => {
                let folder = data.path().to_string_lossy().into_owned();
                flags.extend(["--data-dir".into(), folder]);
                let server = Process::spawn_at(&programs.path("roomcast"), &flags);
                (server, None, None)
            }
            Program::Gateway => {
                let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
                let (broker, store) = (redis.url(), mongo.url("attack"));
                let backends = ["--broker", &broker, "--store", &store].map(String::from);
                let own = ["--admin-listen", "127.0.0.1:0"].map(String::from);
                let persister = [&own[..], &backends].concat();
                let persister = Process::spawn_at(&programs.path("persister"), &persister);
                flags.extend(backends);
                let server = Process::spawn_at(&programs.path("gateway"), &flags);
                (server, Some(persister), Some((redis, mongo)))
            }
        };
        let address = server.ready().await;
        if let Some(persister) = &persister {
            persister.line(|line| line.contains(" is ready")).await;
        }
        let gateway = match &authority {
            Some(_) => {
                let url = format!("wss://{address}/ws").parse();
                url.map_err(|why: &str| Failure::Other(why.into()))?
            }
            None => GatewayUrl::from(&address),
        };
        let secret = secret.map(str::parse::<Secret>).transpose();
        let secret = secret.map_err(|why| Failure::Other(why.into()))?;
        let ca = authority.as_ref().map(Authority::file);
        Ok(Self {
            pass: Pass::of(secret, ca, std::slice::from_ref(&gateway))?,
            gateway,
            address,
            bad_tokens: bad_tokens(SECRET),
            pid: Some(server.pid()),
            started: Some(Started {
                server,
                _persister: persister,
                _backends: backends,
                _data: data,
                _authority: authority,
            }),
        })
    }

    /// The first panic that the server has logged.
    pub(super) fn panic(&self) -> Option<String> {
        let output = self.started.as_ref()?.server.output();
        let line = output.lines().find(|line| line.contains("panicked at"));
        line.map(str::to_owned)
    }

    /// Whether it runs, as far as that can be seen.
    pub(super) fn is_alive(&mut self) -> bool {
        self.started
            .as_mut()
            .is_none_or(|started| started.server.runs())
    }

    /// Writes what the server has logged.
    pub(super) fn save_log(&self, path: &Path) {
        if let Some(started) = &self.started
            && let Err(error) = std::fs::write(path, started.server.output() + "\n")
        {
            eprintln!("the log {} cannot be written: {error}", path.display());
        }
    }
}

/// Tokens of every kind that lets nobody in: garbage, what was good yesterday, what somebody else
/// has signed, what nobody has, and what is larger than a token may be.
fn bad_tokens(secret: &str) -> Vec<String> {
    let header = json!({"typ": "JWT", "alg": "HS256"});
    let signed =
        |claims, secret: &str| token::hs256(&token::unsigned(&header, claims), secret.as_bytes());
    let none = token::unsigned(&json!({"alg": "none"}), json!({"sub": "mallory"}));
    let yesterday = token::now() - 24 * 3600;
    vec![
        "garbage".to_owned(),
        signed(json!({"sub": "mallory", "exp": yesterday}), secret),
        signed(json!({"sub": "mallory"}), FORGED),
        format!("{none}."),
        signed(json!({"sub": "mallory", "more": "x".repeat(HUGE)}), secret),
    ]
}
