//! What a scenario is: a system, a load, and what befalls it.

use std::time::Duration;

use super::load::LoadSettings;

/// What a world consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Two gateways and two persisters on one Redis and one mongod.
    Single,
    /// The same on a Redis with two replicas and three Sentinels.
    Sentinel,
    /// The same on a Redis Cluster of three masters with a replica each.
    Cluster,
    /// The same on one Redis and a MongoDB replica set of three.
    MongoSet,
    /// One `roomcast` with its data in a file.
    Standalone,
}

/// What is struck. Of several, one is chosen each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A gateway, or the `roomcast` of a standalone system.
    Gateway,
    /// A persister.
    Persister,
    /// All persisters at once.
    Persisters,
    /// Redis: of several, the primary, or the master of a shard.
    Redis,
    /// MongoDB: of several, the primary.
    Mongo,
}

/// The network between two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// Between clients and gateways.
    ClientGateway,
    /// Between gateways and Redis.
    GatewayRedis,
    /// Between gateways and MongoDB.
    GatewayMongo,
    /// Between persisters and Redis.
    PersisterRedis,
    /// Between persisters and MongoDB.
    PersisterMongo,
}

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing passes and nothing is reset. At the end either all goes on, or the connections that
    /// were open stay silent for ever.
    Cut,
    /// The connections are reset.
    Reset,
    /// 300 ms longer, each way.
    Delay,
    /// Answers take 300 ms longer, and then the connections are reset, with those that were on their way.
    Lose,
    /// 20,000 octets a second pass on each connection.
    Throttle,
}

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and started again.
    Kill(Target),
    /// SIGTERM, and started again.
    Terminate(Target),
    /// SIGSTOP, and SIGCONT.
    Freeze(Target),
    /// A persister is killed while the store has not answered it yet.
    KillStoring,
    /// The persisters are frozen, and Redis is given a bound that it soon reaches.
    FillRedis,
    /// The replicas are frozen, and then the primary is killed that went on without them.
    KillAhead,
    /// A persister is killed that has stored what it could not acknowledge.
    Unacknowledged,
    /// A replica takes over from a primary that lives, by command.
    Failover(Target),
    /// A shard's slot moves to another master.
    Migrate,
    /// The network is spoilt.
    Network(Link, Trouble),
    /// The network of gateways and MongoDB is spoilt, and meanwhile the clients' connections are
    /// reset: who comes back wants what only MongoDB has.
    NetworkAndReturn(Trouble),
    /// Every gateway is drained and started again, one after the other.
    Roll,
    /// The files cannot grow any further; then there is room again.
    FullDisk,
    /// Nothing but what the load itself brings about.
    Nothing,
}

/// One entry of the table of scenarios.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens, in a line.
    pub about: &'static str,
    /// What it happens to.
    pub system: System,
    /// One of these comes in each round, in random order, and each as often as the others.
    pub faults: &'static [Fault],
    /// How long a fault lasts, half as long again at most.
    pub hold: Duration,
    /// Further flags of gateways, persisters and `roomcast`.
    pub common: &'static [&'static str],
    /// Further flags of gateways.
    pub gateway: &'static [&'static str],
    /// Further options of Redis.
    pub redis: &'static [&'static str],
    /// Changes the load.
    pub load: fn(&mut LoadSettings),
    /// The beginning of a gateway's metric that must have counted something. Otherwise the fault
    /// did not happen, and the scenario has shown nothing.
    pub witness: Option<&'static str>,
    /// Whether what Redis and MongoDB have to do is noted.
    pub measured: bool,
    /// What shows a debt when it is missing, each by itself.
    pub controls: &'static [Control],
}

/// What is taken from a scenario, to show that it was needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    /// What is missing, in a few words.
    pub about: &'static str,
    /// Further flags of gateways, persisters and `roomcast`.
    pub common: &'static [&'static str],
    /// Further options of Redis, which win over those of the scenario.
    pub redis: &'static [&'static str],
    /// Changes the load.
    pub load: fn(&mut LoadSettings),
}

/// Leaves the load as it is.
pub(crate) const AS_IT_IS: fn(&mut LoadSettings) = |_| {};

impl Scenario {
    /// Whether members may be told that not all can be had: what they missed may lie in a MongoDB
    /// that cannot be read, or in a Redis that died with what nobody else had. Elsewhere it can be had.
    pub(crate) fn may_tell(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(
                fault,
                Fault::Kill(Target::Mongo)
                    | Fault::Terminate(Target::Mongo)
                    | Fault::Freeze(Target::Mongo)
                    | Fault::Failover(Target::Mongo)
                    | Fault::Network(Link::GatewayMongo, _)
                    | Fault::NetworkAndReturn(_)
                    | Fault::KillAhead
            )
        })
    }

    /// Whether it spoils the network somewhere, so that proxies are needed.
    pub(crate) fn spoils(&self, link: Link) -> bool {
        self.faults.iter().any(|fault| match fault {
            Fault::Network(spoilt, _) => *spoilt == link,
            Fault::NetworkAndReturn(_) => matches!(link, Link::GatewayMongo | Link::ClientGateway),
            Fault::KillStoring => link == Link::PersisterMongo,
            Fault::Unacknowledged => matches!(link, Link::PersisterRedis | Link::PersisterMongo),
            _ => false,
        })
    }
}
