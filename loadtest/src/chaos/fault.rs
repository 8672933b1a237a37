//! Faults, from their beginning to their end.

use std::path::Path;
use std::time::Duration;

use harness::Redis;
use tokio::time::sleep;

use super::part::Part;
use super::proxy::Weather;
use super::scenario::{Fault, Link, Target, Trouble};
use super::world::{Broker, SHARDS, Store, World};

/// What a delayed network adds to every octet's way.
const DELAY: Duration = Duration::from_millis(300);

/// What a throttled connection carries, in octets a second.
const THROTTLED: u32 = 20_000;

/// How much more Redis may take before it is full.
const MEMORY_LEFT: u64 = 1 << 20;

/// How long a persister may take to store what it has read before the network was cut.
const STORING: Duration = Duration::from_millis(500);

/// How far a primary gets ahead of its frozen replicas.
const AHEAD: Duration = Duration::from_millis(700);

/// How far persisters fall behind before Redis ends, so that it has what nobody else has.
const BEHIND: Duration = Duration::from_millis(300);

/// How much a file may still grow on a full disk.
const ROOM_LEFT: u64 = 64 << 10;

/// A fault of one round, with the choices that it was left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blow {
    fault: Fault,
    /// Which of several.
    which: usize,
    /// Whether it ends in the less friendly way, which it does every other time.
    harsh: bool,
}

impl Blow {
    /// Takes the next of these faults from `deck`, where they lie in random order until each has been
    /// taken, and chooses what it strikes.
    pub(crate) fn choose(
        faults: &[Fault],
        deck: &mut Vec<Fault>,
        round: u32,
        random: &mut fastrand::Rng,
    ) -> Self {
        if deck.is_empty() {
            deck.extend(faults);
            random.shuffle(deck);
        }
        Self {
            fault: deck.pop().unwrap_or(Fault::Nothing),
            which: random.usize(..64),
            harsh: round % 2 == 1,
        }
    }

    /// Lets the fault begin; says what happened, in a few words.
    ///
    /// # Panics
    /// When the system does not do as it is told.
    pub(crate) async fn inflict(self, world: &mut World) -> String {
        match self.fault {
            Fault::Kill(target) => self.kill(world, target).await,
            Fault::Terminate(target) => self.terminate(world, target).await,
            Fault::Freeze(target) => self.freeze(world, target).await,
            Fault::KillAhead => self.kill_ahead(world).await,
            Fault::KillStoring | Fault::Unacknowledged => self.kill_storing(world).await,
            Fault::FillRedis => {
                fall_behind(&world.persisters).await;
                if let Broker::Single(redis) = &world.broker {
                    redis.limit_memory(MEMORY_LEFT).await;
                }
                "every persister frozen, and little memory left".into()
            }
            Fault::Failover(target) => self.fail_over(world, target).await,
            Fault::Migrate => {
                if let Broker::Cluster(cluster) = &world.broker {
                    cluster.migrate(self.shard()).await;
                }
                format!("the slot of shard {} migrated", self.shard())
            }
            Fault::Network(link, trouble) => self.spoil(world, link, trouble),
            Fault::NetworkAndReturn(trouble) => {
                let what = self.spoil(world, Link::GatewayMongo, trouble);
                for proxy in world.network(Link::ClientGateway, None) {
                    proxy.reset();
                }
                format!("{what}, and clients reset")
            }
            Fault::Roll => {
                for gateway in &mut world.gateways {
                    gateway.terminate().await;
                    gateway.restart().await;
                }
                "every gateway restarted, one after the other".into()
            }
            Fault::FullDisk => {
                let server = &mut world.gateways[0];
                server.terminate().await;
                let used = largest(world.data_folder());
                let server = &mut world.gateways[0];
                server.restart_within(used + ROOM_LEFT).await;
                format!("the disk is full at {used} octets")
            }
            Fault::Nothing => "nothing but the load".into(),
        }
    }

    /// Whether it is over once it was inflicted: nothing was taken away that could be given back.
    pub(crate) fn is_over(self) -> bool {
        matches!(
            self.fault,
            Fault::Failover(_) | Fault::Migrate | Fault::Roll
        )
    }

    /// Lets the fault end.
    ///
    /// # Panics
    /// As [`Blow::inflict`].
    pub(crate) async fn end(self, world: &mut World) {
        match self.fault {
            Fault::Kill(target) | Fault::Terminate(target) => self.revive(world, target).await,
            Fault::Freeze(target) => self.resume(world, target).await,
            Fault::KillAhead => self.revive(world, Target::Redis).await,
            Fault::FillRedis => self.resume(world, Target::Persisters).await,
            Fault::KillStoring | Fault::Unacknowledged => {
                let number = self.which % world.persisters.len();
                for link in [Link::PersisterMongo, Link::PersisterRedis] {
                    for proxy in world.network(link, Some(number)) {
                        proxy.reset();
                        proxy.set(Weather::Clear);
                    }
                }
                world.persisters[number].restart().await;
            }
            Fault::Network(link, trouble) => self.clear(world, link, trouble),
            Fault::NetworkAndReturn(trouble) => self.clear(world, Link::GatewayMongo, trouble),
            Fault::FullDisk => {
                // It may have given up by itself, as it should when it cannot write.
                world.gateways[0].kill().await;
                world.gateways[0].restart().await;
            }
            Fault::Failover(_) | Fault::Migrate | Fault::Roll | Fault::Nothing => {}
        }
    }

    async fn kill(self, world: &mut World, target: Target) -> String {
        match target {
            Target::Gateway | Target::Persister | Target::Persisters => {
                for part in self.parts(world, target) {
                    part.kill().await;
                }
            }
            Target::Redis => match &mut world.broker {
                Broker::Single(redis) => {
                    fall_behind(&world.persisters).await;
                    redis.kill();
                    go_on(&world.persisters).await;
                }
                Broker::Sentinel(set) => set.kill_primary().await,
                Broker::Cluster(cluster) => cluster.kill_master(self.shard()).await,
                Broker::Embedded => {}
            },
            Target::Mongo => match &mut world.store {
                Store::Single(mongo) => mongo.kill().await,
                Store::Set(set) => set.kill_primary().await,
                Store::Embedded => {}
            },
        }
        format!("{} killed", self.name(target, world))
    }

    async fn terminate(self, world: &mut World, target: Target) -> String {
        match target {
            Target::Gateway | Target::Persister | Target::Persisters => {
                for part in self.parts(world, target) {
                    part.terminate().await;
                }
            }
            Target::Redis => {
                if let Broker::Single(redis) = &mut world.broker {
                    fall_behind(&world.persisters).await;
                    redis.terminate().await;
                    go_on(&world.persisters).await;
                }
            }
            Target::Mongo => {
                if let Store::Single(mongo) = &mut world.store {
                    mongo.terminate().await;
                }
            }
        }
        format!("{} terminated", self.name(target, world))
    }

    async fn freeze(self, world: &mut World, target: Target) -> String {
        match target {
            Target::Gateway | Target::Persister | Target::Persisters => {
                for part in self.parts(world, target) {
                    part.pause().await;
                }
            }
            Target::Redis => match &world.broker {
                Broker::Single(redis) => redis.pause(),
                Broker::Sentinel(set) => set.pause_primary().await,
                Broker::Cluster(cluster) => cluster.pause_master(self.shard()).await,
                Broker::Embedded => {}
            },
            Target::Mongo => match &mut world.store {
                Store::Single(mongo) => mongo.pause().await,
                Store::Set(set) => set.pause_primary().await,
                Store::Embedded => {}
            },
        }
        format!("{} frozen", self.name(target, world))
    }

    /// Kills a persister with a batch on its way to the store, or one that has been stored.
    async fn kill_storing(self, world: &mut World) -> String {
        let number = self.which % world.persisters.len();
        // What was delayed would still arrive after the persister's death.
        let weather = match self.fault {
            Fault::Unacknowledged => Weather::Delay(DELAY),
            _ => Weather::Cut,
        };
        for proxy in world.network(Link::PersisterMongo, Some(number)) {
            proxy.set(weather);
        }
        sleep(STORING).await;
        let mut what = "killed while the store had not answered";
        if self.fault == Fault::Unacknowledged {
            for proxy in world.network(Link::PersisterRedis, Some(number)) {
                proxy.set(Weather::Cut);
            }
            sleep(STORING + 2 * DELAY).await;
            what = "killed when it had stored and could not acknowledge";
        }
        let persister = &mut world.persisters[number];
        persister.kill().await;
        format!("{} {what}", persister.name())
    }

    async fn kill_ahead(self, world: &mut World) -> String {
        match &mut world.broker {
            Broker::Sentinel(set) => {
                let primary = set.primary().await.port();
                let others = set.servers().iter();
                others
                    .filter(|server| server.port() != primary)
                    .for_each(Redis::pause);
                set.primary().await.drop_replicas().await;
                sleep(AHEAD).await;
                set.kill_primary().await;
                set.resume();
            }
            Broker::Cluster(cluster) => {
                let master = cluster.master(self.shard()).await.port();
                // The other masters stand still too, which nobody takes for their death so soon.
                let others = cluster.nodes().iter();
                others
                    .filter(|node| node.port() != master)
                    .for_each(|node| node.pause());
                for node in cluster.nodes().iter().filter(|node| node.port() == master) {
                    node.drop_replicas().await;
                }
                sleep(AHEAD).await;
                let nodes = cluster.nodes().iter_mut();
                nodes
                    .filter(|node| node.port() == master)
                    .for_each(Redis::kill);
                cluster.resume();
            }
            Broker::Single(_) | Broker::Embedded => {}
        }
        "the primary killed while its replicas were behind".into()
    }

    fn spoil(self, world: &World, link: Link, trouble: Trouble) -> String {
        for proxy in world.network(link, self.only()) {
            match trouble {
                Trouble::Cut => proxy.set(Weather::Cut),
                Trouble::Reset => proxy.reset(),
                Trouble::Delay => proxy.set(Weather::Delay(DELAY)),
                Trouble::Lose => proxy.set(Weather::DelayAnswers(DELAY)),
                Trouble::Throttle => proxy.set(Weather::Throttle(THROTTLED)),
            }
        }
        match self.only() {
            Some(number) => format!("{trouble:?} of {link:?}, number {}", number + 1),
            None => format!("{trouble:?} of {link:?}, all"),
        }
    }

    fn clear(self, world: &World, link: Link, trouble: Trouble) {
        for proxy in world.network(link, self.only()) {
            if trouble == Trouble::Cut && self.harsh {
                proxy.forget();
            }
            if trouble == Trouble::Lose {
                proxy.reset();
            }
            proxy.set(Weather::Clear);
        }
    }

    async fn fail_over(self, world: &mut World, target: Target) -> String {
        if target == Target::Mongo {
            if let Store::Set(set) = &mut world.store {
                set.step_down().await;
            }
            return "the primary stepped down".into();
        }
        match &world.broker {
            Broker::Sentinel(set) => set.failover().await,
            Broker::Cluster(cluster) => cluster.failover(self.shard()).await,
            Broker::Single(_) | Broker::Embedded => {}
        }
        "a replica took over by command".into()
    }

    async fn revive(self, world: &mut World, target: Target) {
        match target {
            Target::Gateway | Target::Persister | Target::Persisters => {
                for part in self.parts(world, target) {
                    part.restart().await;
                }
            }
            Target::Redis => match &mut world.broker {
                Broker::Single(redis) => redis.restart().await,
                Broker::Sentinel(set) => set.restart_dead().await,
                Broker::Cluster(cluster) => cluster.restart_dead().await,
                Broker::Embedded => {}
            },
            Target::Mongo => match &mut world.store {
                Store::Single(mongo) => mongo.restart().await,
                Store::Set(set) => set.restart_dead().await,
                Store::Embedded => {}
            },
        }
    }

    async fn resume(self, world: &mut World, target: Target) {
        match target {
            Target::Gateway | Target::Persister | Target::Persisters => {
                for part in self.parts(world, target) {
                    part.resume().await;
                }
            }
            Target::Redis => match &world.broker {
                Broker::Single(redis) => redis.resume(),
                Broker::Sentinel(set) => {
                    set.resume();
                    set.whole().await;
                }
                Broker::Cluster(cluster) => {
                    cluster.resume();
                    cluster.whole().await;
                }
                Broker::Embedded => {}
            },
            Target::Mongo => match &mut world.store {
                Store::Single(mongo) => mongo.resume().await,
                Store::Set(set) => set.resume().await,
                Store::Embedded => {}
            },
        }
    }

    /// The processes of ours that are struck.
    fn parts(self, world: &mut World, target: Target) -> &mut [Part] {
        let parts = match target {
            Target::Gateway => &mut world.gateways,
            _ => &mut world.persisters,
        };
        if target == Target::Persisters {
            return parts;
        }
        let number = self.which % parts.len();
        &mut parts[number..=number]
    }

    fn name(self, target: Target, world: &mut World) -> String {
        match target {
            Target::Gateway | Target::Persister => {
                let part = &self.parts(world, target)[0];
                part.name().into()
            }
            Target::Persisters => "every persister".into(),
            Target::Redis => "Redis".into(),
            Target::Mongo => "MongoDB".into(),
        }
    }

    fn shard(self) -> u16 {
        self.which as u16 % SHARDS
    }

    /// The number of the one process whose network is spoilt; `None` for all.
    fn only(self) -> Option<usize> {
        // Clients of one gateway alone are not helped by their own reconnecting.
        Some(self.which % 3)
            .filter(|number| *number < 2 || self.harsh)
            .map(|number| number % 2)
    }
}

async fn fall_behind(persisters: &[Part]) {
    for persister in persisters {
        persister.pause().await;
    }
    sleep(BEHIND).await;
}

async fn go_on(persisters: &[Part]) {
    for persister in persisters {
        persister.resume().await;
    }
}

/// The size of the largest file of a folder, in octets.
fn largest(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_faults_comes_in_as_many_rounds_as_there_are() {
        let faults = [Target::Gateway, Target::Persister, Target::Redis].map(Fault::Kill);
        let mut random = fastrand::Rng::with_seed(1);
        let mut deck = Vec::new();
        for _ in 0..5 {
            let round = |round| Blow::choose(&faults, &mut deck, round, &mut random).fault;
            let blows = (1..=3).map(round).collect::<Vec<_>>();
            assert!(
                faults.iter().all(|fault| blows.contains(fault)),
                "{blows:?}"
            );
        }
    }
}
