//! What loads run on: the floor, Roomcast as one process or as tiers, and RabbitMQ.

use std::any::Any;
use std::net::SocketAddr;
use std::path::Path;

use harness::{Authority, Mongo, Process, Rabbitmq, Redis};
use tempfile::TempDir;

use super::stage::{Broken, Stage};

/// A running system. It ends when this is dropped, and when this process is killed.
pub(crate) struct System {
    /// Its name in tables.
    pub name: &'static str,
    /// Where clients connect, and what other flags a load on it needs.
    flags: Vec<String>,
    /// The processes that cost is charged to: names and ids. Those that clients talk to are `server`.
    processes: Vec<(&'static str, u32)>,
    /// Where the operators' pages of its persisters are.
    pub persisters: Vec<SocketAddr>,
    /// What it ends with: processes, servers and folders, dropped in this order.
    keep: Vec<Box<dyn Any + Send>>,
}

/// The name of processes that clients talk to.
pub(crate) const SERVER: &str = "server";

impl System {
    /// `loadtest floor`.
    pub(crate) async fn floor(stage: &Stage) -> Self {
        let process = Process::spawn_at(&stage.own, ["floor", "--listen", "127.0.0.1:0"]);
        let address = process.ready().await;
        let mut system = Self::new("floor");
        system.serve(address);
        system.charge(SERVER, process.pid());
        system.keep.push(Box::new(process));
        system
    }

    /// `roomcast`, all in one process, with these further flags.
    pub(crate) async fn standalone(stage: &Stage, flags: &[&str]) -> Result<Self, Broken> {
        let folder = TempDir::new().map_err(|error| Broken::Failed(error.to_string()))?;
        let data = folder.path().to_string_lossy().into_owned();
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
        ];
        let process = Process::spawn_at(&stage.programs.path("roomcast"), args.iter().chain(flags));
        let mut system = Self::new("Roomcast, one process");
        system.serve(process.ready().await);
        system.charge(SERVER, process.pid());
        system.keep.push(Box::new(process));
        system.keep.push(Box::new(folder));
        Ok(system)
    }

    /// Gateways and persisters on a Redis, which syncs before it answers, and a mongod.
    pub(crate) async fn tiers(stage: &Stage, gateways: usize, persisters: usize) -> Self {
        let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
        let mut system = Self::gateways(stage, &redis, &mongo, gateways).await;
        for _ in 0..persisters {
            let process = Self::spawn_persister(stage, &redis, &mongo).await;
            system.persisters.push(process.admin().await);
            system.charge("persister", process.pid());
            system.keep.push(Box::new(process));
        }
        system.charge("redis", redis.pid().unwrap_or_default());
        system.charge("mongod", mongo.pid().unwrap_or_default());
        // Last, so that they end after those that use them.
        system.keep.push(Box::new(redis));
        system.keep.push(Box::new(mongo));
        system
    }

    /// Gateways on servers that somebody else keeps.
    pub(crate) async fn gateways(
        stage: &Stage,
        redis: &Redis,
        mongo: &Mongo,
        count: usize,
    ) -> Self {
        let mut system = Self::new("Roomcast");
        let common = backends(redis, mongo);
        let args = || {
            common
                .iter()
                .map(String::as_str)
                .chain(["--listen", "127.0.0.1:0"])
        };
        for _ in 0..count {
            let process = Process::spawn_at(&stage.programs.path("gateway"), args());
            system.serve(process.ready().await);
            system.charge(SERVER, process.pid());
            system.keep.push(Box::new(process));
        }
        system
    }

    /// One gateway on servers that somebody else keeps, over TLS.
    pub(crate) async fn tls(
        stage: &Stage,
        redis: &Redis,
        mongo: &Mongo,
        authority: &Authority,
    ) -> Self {
        let own = authority.certify("gateway", &["127.0.0.1"]);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut args = backends(redis, mongo);
        args.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        args.extend(["--tls-cert".into(), path(&own.certificate)]);
        args.extend(["--tls-key".into(), path(&own.key)]);
        let process = Process::spawn_at(&stage.programs.path("gateway"), &args);
        let mut system = Self::new("Roomcast, TLS");
        let url = format!("wss://{}/ws", process.ready().await);
        system.flags = vec!["--gateway".into(), url];
        system
            .flags
            .extend(["--ca".into(), path(&authority.file())]);
        system.charge(SERVER, process.pid());
        system.keep.push(Box::new(process));
        system
    }

    /// A persister on servers that somebody else keeps, once it is ready.
    pub(crate) async fn spawn_persister(stage: &Stage, redis: &Redis, mongo: &Mongo) -> Process {
        let program = stage.programs.path("persister");
        let process = Process::spawn_at(&program, backends(redis, mongo));
        process.line(|line| line.contains("is ready")).await;
        process
    }

    /// RabbitMQ with Web-STOMP.
    pub(crate) async fn rabbitmq() -> Self {
        let rabbitmq = Rabbitmq::start().await;
        let mut system = Self::new("RabbitMQ");
        system.flags = vec!["--gateway".into(), rabbitmq.url()];
        system.flags.extend(["--server".into(), "rabbitmq".into()]);
        system.charge(SERVER, rabbitmq.pid());
        system.keep.push(Box::new(rabbitmq));
        system
    }

    /// The flags of a load on it.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = self.flags.clone();
        for (name, pid) in &self.processes {
            flags.extend(["--pid".into(), format!("{name}={pid}")]);
        }
        flags
    }

    /// The ids of its processes of this name.
    pub(crate) fn pids(&self, name: &str) -> Vec<u32> {
        let named = self.processes.iter().filter(|(known, _)| *known == name);
        named.map(|(_, pid)| *pid).collect()
    }

    fn new(name: &'static str) -> Self {
        Self {
            name,
            flags: Vec::new(),
            processes: Vec::new(),
            persisters: Vec::new(),
            keep: Vec::new(),
        }
    }

    fn serve(&mut self, address: SocketAddr) {
        self.flags
            .extend(["--gateway".into(), format!("ws://{address}/ws")]);
    }

    fn charge(&mut self, name: &'static str, pid: u32) {
        self.processes.push((name, pid));
    }
}

fn backends(redis: &Redis, mongo: &Mongo) -> Vec<String> {
    let flags = [
        ("--broker", redis.url()),
        ("--store", mongo.url("figures")),
        ("--admin-listen", "127.0.0.1:0".to_owned()),
    ];
    let flags = flags.into_iter();
    flags
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}
