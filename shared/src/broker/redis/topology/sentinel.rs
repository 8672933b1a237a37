//! The primary that Sentinels name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{ConnectionInfo, RedisConnectionInfo, Value, cmd, from_redis_value, pipe};
use tokio::time::Instant;

use super::belief::Belief;
use super::inquiry::{Answers, Inquiry, together};
use super::layout::Home;
use super::{Layout, MOST_ASKED, Source};
use crate::broker::BrokerError;
use crate::broker::redis::connect::Address;
use crate::config::servers::Service;

/// How long a replica without a connection to a Sentinel is still up, in milliseconds: the one that
/// is promoted ends all of its connections, and they are made again every second.
const UNHEARD_MAX: i64 = 3000;

/// How long a replica may have lost its primary and still count, in milliseconds. Sentinels promote
/// the one that has the most by what each told them last, which may be ten seconds ago.
const UNLINKED_MAX: i64 = 15_000;

/// `redis+sentinel://`.
pub(super) struct Sentinels {
    service: String,
    access: ConnectionInfo,
    shards: u16,
    seeds: Vec<Address>,
    /// Other Sentinels of the service, which are asked when the seeds are gone.
    learned: Mutex<BTreeSet<Address>>,
    sentinels: Inquiry,
    servers: Inquiry,
    belief: Mutex<Belief>,
}

/// What a Sentinel knows of a server, as it writes it.
type Fields = HashMap<String, String>;

/// What a Sentinel says.
struct Named {
    /// Grows with every failover: the greatest is the newest.
    epoch: u64,
    home: Home,
    /// Replicas that it holds to be down.
    down: BTreeSet<Address>,
}

impl Sentinels {
    pub(super) fn new(
        service: &Service,
        access: ConnectionInfo,
        seeds: Vec<Address>,
        shards: u16,
    ) -> Self {
        let mut user = RedisConnectionInfo::default();
        if let Some(username) = &service.username {
            user = user.set_username(username);
        }
        if let Some(password) = &service.password {
            user = user.set_password(password);
        }
        Self {
            service: service.name.clone(),
            sentinels: Inquiry::new(access.clone().set_redis_settings(user), "Sentinel"),
            servers: Inquiry::new(access.clone(), "Redis"),
            access,
            shards,
            seeds,
            learned: Mutex::default(),
            belief: Mutex::default(),
        }
    }

    async fn primary(&self, before: Option<&Layout>) -> Result<Layout, BrokerError> {
        let Named { home, down, .. } = self.named(before).await?;
        let address = home.address.clone();
        let role = pipe().add_command(cmd("ROLE")).clone();
        let answers = self.servers.ask(&address, &role).await?;
        match answers.first() {
            Some(Ok(Value::Array(role))) if role.first() == Some(&word("master")) => {
                let homes = vec![home; usize::from(self.shards) + 1];
                Layout::new(&self.access, &homes, down, true)
            }
            Some(Err(error)) => Err(self.servers.explain(&address, error)),
            _ => Err(BrokerError::Unavailable(format!(
                "the Sentinels name Redis at {address}, which is not a primary (yet)"
            ))),
        }
    }

    async fn named(&self, before: Option<&Layout>) -> Result<Named, BrokerError> {
        let mut asked = self.seeds.clone();
        let learned = self.learned().clone();
        asked.extend(learned.into_iter().filter(|one| !self.seeds.contains(one)));
        asked.truncate(MOST_ASKED);
        let mut questions = pipe();
        for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS", "REPLICAS"] {
            questions.cmd("SENTINEL").arg(question).arg(&self.service);
        }
        let (mut all, mut unknown, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for (sentinel, answers) in self.sentinels.ask_all(&asked, &questions).await {
            match answers.and_then(|answers| self.read(&sentinel, answers)) {
                Ok(Some(named)) => all.push(named),
                Ok(None) => unknown.push(sentinel),
                Err(error) => failures.push(error),
            }
        }
        let in_use = before.and_then(|before| before.homes().next());
        if let Some(named) = self.newest(
            all,
            in_use.as_ref().map(|home| &home.address),
            Instant::now(),
        )? {
            return Ok(named);
        }
        let Some(sentinel) = unknown.first() else {
            return Err(together(failures));
        };
        let known = self.services(sentinel).await;
        Err(BrokerError::Misconfigured(format!(
            "the Sentinels do not know a service `{}`; Sentinel at {sentinel} watches {known}",
            self.service
        )))
    }

    /// What the newest of them say; `None` where there are none. A replica is up that any of those
    /// finds up.
    fn newest(
        &self,
        all: Vec<Named>,
        in_use: Option<&Address>,
        now: Instant,
    ) -> Result<Option<Named>, BrokerError> {
        let Some(epoch) = all.iter().map(|named| named.epoch).max() else {
            return Ok(None);
        };
        let mut belief = self.belief.lock().expect("no one panics while holding it");
        if !belief.accepts(epoch, now) {
            return Err(BrokerError::Unavailable(
                "no Sentinel answers that has heard of the last failover".into(),
            ));
        }
        let mut newest: Vec<Named> = all
            .into_iter()
            .filter(|named| named.epoch == epoch)
            .collect();
        // Sentinels may call one server by several names: it stays under the one in use.
        newest.sort_by_key(|named| Some(&named.home.address) != in_use);
        Ok(newest.into_iter().reduce(|mut one, other| {
            if one.home.address == other.home.address {
                one.home.replicas.extend(other.home.replicas);
                one.down = &one.down & &other.down;
            }
            one
        }))
    }

    /// Reads the answers of a Sentinel; `None` when it does not know the service.
    fn read(&self, sentinel: &Address, answers: Answers) -> Result<Option<Named>, BrokerError> {
        let mut answers = answers.into_iter();
        let (named, state) = (answers.next(), answers.next());
        let (others, replicas) = (answers.next(), answers.next());
        let primary = match named {
            Some(Ok(Value::Nil)) => return Ok(None),
            Some(Ok(value)) => from_redis_value::<(String, u16)>(value).ok(),
            Some(Err(error)) if error.to_string().contains("unknown command") => {
                return Err(BrokerError::Misconfigured(format!(
                    "Redis at {sentinel} is no Sentinel: name the Sentinels, usually at port \
                     26379, or give redis://{sentinel}"
                )));
            }
            Some(Err(error)) => return Err(self.sentinels.explain(sentinel, &error)),
            None => None,
        };
        let primary = primary.map(|(host, port)| Address::new(host, port));
        let primary = primary.ok_or_else(|| {
            BrokerError::Unavailable(format!("Sentinel at {sentinel} names no address"))
        })?;
        let state: Fields = known(state).unwrap_or_default();
        let others: Vec<Fields> = known(others).unwrap_or_default();
        let replicas: Vec<Fields> = known(replicas).unwrap_or_default();
        let (down, up): (Vec<_>, Vec<_>) = replicas.into_iter().partition(is_down);
        let mut learned = self.learned();
        learned.extend(others.iter().filter_map(address));
        // One that has moved leaves its old address behind.
        while learned.len() > MOST_ASKED {
            learned.pop_first();
        }
        Ok(Some(Named {
            epoch: state
                .get("config-epoch")
                .and_then(|epoch| epoch.parse().ok())
                .unwrap_or_default(),
            home: Home {
                // The one that is promoted is among its own replicas for a while.
                replicas: (up.iter())
                    .filter(|replica| follows(replica))
                    .filter_map(address)
                    .filter(|replica| *replica != primary)
                    .collect(),
                address: primary,
            },
            down: down.iter().filter_map(address).collect(),
        }))
    }

    /// What a Sentinel watches, for the error.
    async fn services(&self, sentinel: &Address) -> String {
        let question = pipe().cmd("SENTINEL").arg("MASTERS").clone();
        let answers = self.sentinels.ask(sentinel, &question).await;
        let masters = answers.ok().and_then(|answers| answers.into_iter().next());
        let masters: Vec<Fields> = known(masters).unwrap_or_default();
        let names = masters.iter().filter_map(|master| master.get("name"));
        let names: Vec<String> = names.take(10).map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            return "nothing".into();
        }
        names.join(", ")
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, BTreeSet<Address>> {
        let learned = self.learned.lock();
        learned.expect("no one panics while holding the addresses")
    }
}

impl Source for Sentinels {
    fn look<'a>(
        &'a self,
        before: Option<&'a Layout>,
    ) -> BoxFuture<'a, Result<Layout, BrokerError>> {
        self.primary(before).boxed()
    }
}

/// Whether a Sentinel holds a replica to be down.
fn is_down(replica: &Fields) -> bool {
    let flagged = |flag: &str| field(replica, "flags").split(',').any(|one| one == flag);
    let unheard = flagged("disconnected") && !within(replica, "last-ok-ping-reply", UNHEARD_MAX);
    flagged("s_down") || flagged("o_down") || unheard
}

/// Whether a replica's data are such that a Sentinel may promote it: it has told of its primary,
/// and has had its data.
fn follows(replica: &Fields) -> bool {
    let linked = field(replica, "master-link-status") == "ok"
        || within(replica, "master-link-down-time", UNLINKED_MAX);
    field(replica, "master-host") != "?" && linked
}

fn field<'a>(of: &'a Fields, name: &str) -> &'a str {
    of.get(name).map_or("", String::as_str)
}

fn within(of: &Fields, name: &str, max: i64) -> bool {
    (field(of, name).parse()).is_ok_and(|ms: i64| (0..max).contains(&ms))
}

fn address(of: &Fields) -> Option<Address> {
    Some(Address::new(of.get("ip")?, of.get("port")?.parse().ok()?))
}

fn known<T: redis::FromRedisValue>(answer: Option<redis::RedisResult<Value>>) -> Option<T> {
    from_redis_value(answer?.ok()?).ok()
}

fn word(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::IntoConnectionInfo;

    use super::*;

    fn sentinels() -> Sentinels {
        let service = Service {
            name: "roomcast".into(),
            username: None,
            password: None,
        };
        let access = "redis://a".into_connection_info().unwrap();
        Sentinels::new(&service, access, Vec::new(), 1)
    }

    fn says(primary: &str, epoch: u64) -> Named {
        Named {
            epoch,
            home: Home {
                address: Address::new(primary, 6379),
                replicas: BTreeSet::new(),
            },
            down: BTreeSet::new(),
        }
    }

    #[test]
    fn a_sentinel_that_has_missed_a_failover_is_not_believed() {
        let (sentinels, start) = (sentinels(), Instant::now());
        for (all, seconds, primary) in [
            (vec![says("old", 1)], 0, Some("old")),
            (vec![says("old", 1), says("new", 2)], 10, Some("new")),
            (vec![says("old", 1)], 20, None),
            (vec![says("new", 2), says("old", 1)], 30, Some("new")),
            // They were set up anew.
            (vec![says("old", 0)], 100, Some("old")),
        ] {
            let now = start + Duration::from_secs(seconds);
            let newest = sentinels.newest(all, None, now);
            let primary = primary.map(|primary| Some(Address::new(primary, 6379)));
            let newest = newest
                .ok()
                .map(|newest| newest.map(|newest| newest.home.address));
            assert_eq!(newest, primary, "after {seconds} s");
        }
    }

    #[test]
    fn a_primary_with_two_names_stays_under_the_one_in_use() {
        let (here, there) = (Address::new("here", 6379), Address::new("10.0.0.1", 6379));
        for in_use in [&here, &there] {
            for all in [
                [says("here", 3), says("10.0.0.1", 3)],
                [says("10.0.0.1", 3), says("here", 3)],
            ] {
                let newest = sentinels().newest(all.into(), Some(in_use), Instant::now());
                assert_eq!(&newest.unwrap().unwrap().home.address, in_use);
            }
        }
    }

    #[test]
    fn a_replica_whose_connections_ended_with_its_promotion_is_up() {
        for (flags, heard, link, lost, up) in [
            ("slave", "100", "ok", "0", true),
            ("slave,disconnected,promoted", "900", "ok", "0", true),
            ("slave,disconnected", "9000", "ok", "0", false),
            ("s_down,slave", "900", "ok", "0", false),
            ("slave", "100", "err", "9000", true),
            ("slave", "100", "err", "60000", false),
            // It never had its data.
            ("slave", "100", "err", "-1000", false),
        ] {
            let fields = [
                ("flags", flags),
                ("last-ok-ping-reply", heard),
                ("master-link-status", link),
                ("master-link-down-time", lost),
                ("master-host", "10.0.0.1"),
            ];
            let replica = fields
                .map(|(name, value)| (name.into(), value.into()))
                .into();
            assert_eq!(!is_down(&replica) && follows(&replica), up, "{fields:?}");
        }
    }
}
