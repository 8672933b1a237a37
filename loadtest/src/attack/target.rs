//! The server that is attacked.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Mongo, Process, Redis};
use shared::exit::Failure;
use tempfile::TempDir;
use tokio::net::lookup_host;

use crate::chaos::programs::Programs;
use crate::config::{AttackArgs, GatewayUrl, Program};

/// A server, and what it needs. All that was started for it ends when this is dropped.
pub(super) struct Target {
    pub(super) gateway: GatewayUrl,
    pub(super) address: SocketAddr,
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
}

impl Target {
    /// A server that somebody else has started.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when it has no address.
    pub(super) async fn given(url: &GatewayUrl, pid: Option<u32>) -> Result<Self, Failure> {
        let unknown = || Failure::Unavailable(format!("--url: {} has no address", url.as_str()));
        let mut found = lookup_host(url.authority()).await.map_err(|_| unknown())?;
        Ok(Self {
            gateway: url.clone(),
            address: found.next().ok_or_else(unknown)?,
            pid,
            started: None,
        })
    }

    /// Starts the server that the flags name.
    ///
    /// # Errors
    /// [`Failure::Other`] when there is no folder for its data.
    ///
    /// # Panics
    /// When a process does not start.
    pub(super) async fn start(args: &AttackArgs, programs: &Programs) -> Result<Self, Failure> {
        let data = TempDir::with_prefix("roomcast-attack-");
        let data = data.map_err(|error| Failure::Other(format!("a folder for data: {error}")))?;
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut flags: Vec<String> = ports.map(String::from).into();
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
        Ok(Self {
            gateway: GatewayUrl::from(&address),
            address,
            pid: Some(server.pid()),
            started: Some(Started {
                server,
                _persister: persister,
                _backends: backends,
                _data: data,
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
