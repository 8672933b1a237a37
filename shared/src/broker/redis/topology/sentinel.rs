//! The primary that Sentinels name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{ConnectionInfo, RedisConnectionInfo, Value, cmd, from_redis_value, pipe};
use tokio::time::Instant;

use super::belief::Belief;
use super::inquiry::{Answers, Inquiry, together};
use super::{Layout, MOST_ASKED, Source};
use crate::broker::BrokerError;
use crate::broker::redis::connect::Address;
use crate::config::servers::Service;

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

/// What a Sentinel says.
struct Named {
    /// Grows with every failover: the greatest is the newest.
    epoch: u64,
    primary: Address,
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

    async fn primary(&self, before: Option<&Layout>) -> Result<Address, BrokerError> {
        let named = self.named(before).await?;
        let role = pipe().add_command(cmd("ROLE")).clone();
        let answers = self.servers.ask(&named, &role).await?;
        match answers.first() {
            Some(Ok(Value::Array(role))) if role.first() == Some(&word("master")) => Ok(named),
            Some(Err(error)) => Err(self.servers.explain(&named, error)),
            _ => Err(BrokerError::Unavailable(format!(
                "the Sentinels name Redis at {named}, which is not a primary (yet)"
            ))),
        }
    }

    async fn named(&self, before: Option<&Layout>) -> Result<Address, BrokerError> {
        let mut asked = self.seeds.clone();
        let learned = self.learned().clone();
        asked.extend(learned.into_iter().filter(|one| !self.seeds.contains(one)));
        asked.truncate(MOST_ASKED);
        let mut questions = pipe();
        for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS"] {
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
        let in_use = before.and_then(|before| before.addresses().next());
        if let Some(primary) = self.newest(&all, in_use, Instant::now())? {
            return Ok(primary);
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

    /// The primary that the newest of them name; `None` where there are none.
    fn newest(
        &self,
        all: &[Named],
        in_use: Option<&Address>,
        now: Instant,
    ) -> Result<Option<Address>, BrokerError> {
        // Sentinels may call one server by several names: it stays under the one in use.
        let newest = (all.iter()).max_by_key(|named| (named.epoch, Some(&named.primary) == in_use));
        let mut belief = self.belief.lock().expect("no one panics while holding it");
        match newest {
            Some(named) if !belief.accepts(named.epoch, now) => Err(BrokerError::Unavailable(
                "no Sentinel answers that has heard of the last failover".into(),
            )),
            newest => Ok(newest.map(|named| named.primary.clone())),
        }
    }

    /// Reads the answers of a Sentinel; `None` when it does not know the service.
    fn read(&self, sentinel: &Address, answers: Answers) -> Result<Option<Named>, BrokerError> {
        let mut answers = answers.into_iter();
        let (named, state, others) = (answers.next(), answers.next(), answers.next());
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
        let (host, port) = primary.ok_or_else(|| {
            BrokerError::Unavailable(format!("Sentinel at {sentinel} names no address"))
        })?;
        let state: HashMap<String, String> = known(state).unwrap_or_default();
        let others: Vec<HashMap<String, String>> = known(others).unwrap_or_default();
        let address = |of: &HashMap<String, String>| {
            Some(Address::new(of.get("ip")?, of.get("port")?.parse().ok()?))
        };
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
            primary: Address::new(host, port),
        }))
    }

    /// What a Sentinel watches, for the error.
    async fn services(&self, sentinel: &Address) -> String {
        let question = pipe().cmd("SENTINEL").arg("MASTERS").clone();
        let answers = self.sentinels.ask(sentinel, &question).await;
        let masters = answers.ok().and_then(|answers| answers.into_iter().next());
        let masters: Vec<HashMap<String, String>> = known(masters).unwrap_or_default();
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
        async move {
            let primary = self.primary(before).await?;
            let homes = vec![primary; usize::from(self.shards) + 1];
            Layout::new(&self.access, &homes)
        }
        .boxed()
    }
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
            primary: Address::new(primary, 6379),
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
            let newest = sentinels.newest(&all, None, now);
            let primary = primary.map(|primary| Some(Address::new(primary, 6379)));
            assert_eq!(newest.ok(), primary, "after {seconds} s");
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
                let newest = sentinels().newest(&all, Some(in_use), Instant::now());
                assert_eq!(newest.unwrap().as_ref(), Some(in_use));
            }
        }
    }
}
