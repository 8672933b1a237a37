//! The processes of a scenario and the network between them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::{Cluster, Mongo, MongoSet, Redis, Sentinel, port};
use shared::config::{Retention, StoreSettings};
use tempfile::TempDir;

use super::part::Part;
use super::programs::Programs;
use super::proxy::Proxy;
use super::scenario::{Control, Link, Scenario, System};

/// How many gateways and how many persisters there are.
const EACH: usize = 2;

/// How many shards: each master of a cluster of three has some.
pub(crate) const SHARDS: u16 = 4;

/// Time-outs short enough for a fault to outlast them.
const COMMON: [&str; 12] = [
    "--publish-timeout",
    "3s",
    "--store-timeout",
    "2s",
    "--takeover-after",
    "2s",
    "--drain-timeout",
    "4s",
    "--connect-timeout",
    "20s",
    "--admin-listen",
    "127.0.0.1:0",
];

/// Likewise, of gateways.
const GATEWAY: [&str; 6] = [
    "--receipt-timeout",
    "5s",
    "--write-timeout",
    "3s",
    "--heartbeat",
    "2s",
];

/// What carries messages.
pub(crate) enum Broker {
    Single(Redis),
    Sentinel(Sentinel),
    Cluster(Cluster),
    Embedded,
}

/// What keeps messages.
pub(crate) enum Store {
    Single(Mongo),
    Set(MongoSet),
    Embedded,
}

/// A running system. All of it ends when this is dropped, and when this process is killed.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) gateways: Vec<Part>,
    pub(crate) persisters: Vec<Part>,
    proxies: BTreeMap<(Link, usize), Proxy>,
    clients: Vec<SocketAddr>,
    logs: PathBuf,
    data: TempDir,
}

impl World {
    /// Starts all that the scenario needs, without what the control takes away.
    ///
    /// # Errors
    /// When there is no port or no folder for temporary files.
    ///
    /// # Panics
    /// When a process does not start.
    pub(crate) async fn start(
        scenario: &Scenario,
        control: Option<&Control>,
        programs: &Programs,
        logs: &Path,
    ) -> io::Result<Self> {
        let options = [scenario.redis, control.map_or(&[], |control| control.redis)].concat();
        let (broker, store) = match scenario.system {
            System::Single => {
                let (redis, mongo) = tokio::join!(Redis::start_with(&options), Mongo::start());
                (Broker::Single(redis), Store::Single(mongo))
            }
            System::Sentinel => {
                let set = Sentinel::start_with(&options, "");
                let (redis, mongo) = tokio::join!(set, Mongo::start());
                (Broker::Sentinel(redis), Store::Single(mongo))
            }
            System::Cluster => {
                let cluster = Cluster::start_with(&options);
                let (redis, mongo) = tokio::join!(cluster, Mongo::start());
                (Broker::Cluster(redis), Store::Single(mongo))
            }
            System::MongoSet => {
                let (redis, mongo) = tokio::join!(Redis::start_with(&options), MongoSet::start());
                (Broker::Single(redis), Store::Set(mongo))
            }
            System::Standalone => (Broker::Embedded, Store::Embedded),
        };
        let mut world = Self {
            broker,
            store,
            gateways: Vec::new(),
            persisters: Vec::new(),
            proxies: BTreeMap::new(),
            clients: Vec::new(),
            logs: logs.to_owned(),
            data: tempfile::tempdir()?,
        };
        let control = control.map_or(&[][..], |control| control.common);
        let common = [&COMMON[..], scenario.common, control].concat();
        let gateway = [&common[..], &GATEWAY, scenario.gateway].concat();
        let count = if scenario.system == System::Standalone {
            1
        } else {
            EACH
        };
        for number in 0..count {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
            let mut args: Vec<String> = gateway.iter().map(ToString::to_string).collect();
            args.extend(["--listen".into(), address.to_string()]);
            let program = if scenario.system == System::Standalone {
                let folder = world.data_folder().to_string_lossy().into_owned();
                args.extend(["--data-dir".into(), folder]);
                "roomcast"
            } else {
                let links = [Link::GatewayRedis, Link::GatewayMongo];
                args.extend(world.backends(scenario, links, number).await?);
                "gateway"
            };
            let name = format!("{program}-{}", number + 1);
            let part = Part::start(name, programs.path(program), args, logs).await;
            world.gateways.push(part);
            let client = world.through(scenario, Link::ClientGateway, number, address);
            let client = client.await?;
            world.clients.push(client);
        }
        if scenario.system != System::Standalone {
            for number in 0..EACH {
                let mut args: Vec<String> = common.iter().map(ToString::to_string).collect();
                let links = [Link::PersisterRedis, Link::PersisterMongo];
                args.extend(world.backends(scenario, links, number).await?);
                let name = format!("persister-{}", number + 1);
                let part = Part::start(name, programs.path("persister"), args, logs).await;
                world.persisters.push(part);
            }
        }
        Ok(world)
    }

    /// Where clients connect.
    pub(crate) fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Where the data of a `roomcast` are.
    pub(crate) fn data_folder(&self) -> &Path {
        self.data.path()
    }

    /// The network of a link: of each process, or of one.
    pub(crate) fn network(&self, link: Link, only: Option<usize>) -> Vec<&Proxy> {
        let all = self.proxies.iter();
        all.filter(|((of, number), _)| *of == link && only.is_none_or(|only| only == *number))
            .map(|(_, proxy)| proxy)
            .collect()
    }

    /// The URLs of the one Redis and the one mongod, where there is one each.
    pub(crate) fn urls(&self) -> Option<(String, String)> {
        match (&self.broker, &self.store) {
            (Broker::Single(redis), Store::Single(mongo)) => {
                Some((redis.url(), mongo.url("admin")))
            }
            _ => None,
        }
    }

    /// The store, to be read by itself. A `roomcast` is killed for that: nobody else may open its file.
    pub(crate) async fn archive(&mut self) -> Result<Arc<dyn shared::store::Store>, String> {
        let url = match &self.store {
            Store::Single(mongo) => mongo.url("chaos"),
            Store::Set(set) => set.url("chaos"),
            Store::Embedded => {
                self.gateways[0].kill().await;
                format!("sqlite:{}/messages.db", self.data_folder().display())
            }
        };
        let settings = StoreSettings {
            url: url.parse().map_err(|error| format!("{error}"))?,
            connect_timeout: Duration::from_secs(20),
            operation_timeout: Duration::from_secs(10),
            retention: Retention::Unchanged,
        };
        let opened = shared::store::open(&settings).await;
        opened.map_err(|error| error.to_string())
    }

    /// What a process of ours that ended without being asked to said last.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let parts = self.gateways.iter_mut().chain(&mut self.persisters);
        parts.filter_map(Part::last_words).next()
    }

    /// The sum of what the gateways have counted under metrics that begin so. Those that count from
    /// the start again, because they were restarted, are in it with what is left.
    pub(crate) async fn counted(&self, beginning: &str) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            let metrics = gateway.metrics(Duration::from_secs(5)).await;
            let values = metrics.lines().filter(|line| line.starts_with(beginning));
            sum += values
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum::<f64>();
        }
        sum
    }

    async fn backends(
        &mut self,
        scenario: &Scenario,
        [to_redis, to_mongo]: [Link; 2],
        number: usize,
    ) -> io::Result<[String; 6]> {
        let broker = match &self.broker {
            Broker::Single(redis) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port()));
                let address = self.through(scenario, to_redis, number, address).await?;
                format!("redis://{address}")
            }
            Broker::Sentinel(set) => set.url(),
            Broker::Cluster(cluster) => cluster.url(),
            Broker::Embedded => "memory:".into(),
        };
        let store = match &self.store {
            Store::Single(mongo) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, mongo.port()));
                let address = self.through(scenario, to_mongo, number, address).await?;
                // The client would otherwise ask the server for its address, and go there.
                format!("mongodb://{address}/chaos?directConnection=true")
            }
            Store::Set(set) => set.url("chaos"),
            Store::Embedded => "sqlite:messages.db".into(),
        };
        Ok([
            "--broker".into(),
            broker,
            "--store".into(),
            store,
            "--shards".into(),
            SHARDS.to_string(),
        ])
    }

    /// The address of a proxy to `address` where the scenario spoils the link, else `address`.
    async fn through(
        &mut self,
        scenario: &Scenario,
        link: Link,
        number: usize,
        address: SocketAddr,
    ) -> io::Result<SocketAddr> {
        if !scenario.spoils(link) {
            return Ok(address);
        }
        let proxy = Proxy::start(address).await?;
        let address = proxy.address();
        self.proxies.insert((link, number), proxy);
        Ok(address)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let redis: Vec<String> = match &mut self.broker {
            Broker::Single(redis) => vec![redis.log()],
            Broker::Sentinel(set) => set.servers().iter().map(Redis::log).collect(),
            Broker::Cluster(cluster) => cluster.nodes().iter().map(Redis::log).collect(),
            Broker::Embedded => Vec::new(),
        };
        let mongo = match &self.store {
            Store::Single(mongo) => vec![mongo.newest_log()],
            Store::Set(set) => set.nodes().iter().map(Mongo::newest_log).collect(),
            Store::Embedded => Vec::new(),
        };
        let redis = (1..)
            .zip(redis)
            .map(|(number, log)| (format!("redis-{number}"), log));
        let mongo = (1..)
            .zip(mongo)
            .map(|(number, log)| (format!("mongod-{number}"), log));
        for (name, log) in redis.chain(mongo) {
            let path = self.logs.join(format!("{name}.log"));
            if let Err(error) = std::fs::write(&path, log) {
                eprintln!("the log {} cannot be written: {error}", path.display());
            }
        }
    }
}
