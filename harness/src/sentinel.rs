//! A Redis with two replicas of a test's own, and three Sentinels that promote one of them when the
//! primary is gone for a second.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

use crate::redis::Redis;
use crate::until::until;

/// What the Sentinels call the set.
pub const SERVICE: &str = "roomcast";

/// Replicas are there soon, and the primary notices soon when one is gone.
const REPLICATION: [&str; 4] = [
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// One primary, two replicas and three Sentinels. Dropping it ends them.
pub struct Sentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Sentinel {
    /// Starts a set, and returns when it is whole: both replicas in sync, and each Sentinel knows
    /// the others.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not start, or the set does not become whole.
    pub async fn start() -> Self {
        Self::start_with(&[], "").await
    }

    /// Starts a set with further options of the servers (`--requirepass p --masterauth p`) and
    /// further lines in the configuration of the Sentinels.
    ///
    /// # Panics
    /// As [`Sentinel::start`].
    pub async fn start_with(options: &[&str], sentinel: &str) -> Self {
        let options = [&REPLICATION, options].concat();
        let primary = Redis::start_with(&options).await;
        let port = primary.port().to_string();
        let of = format!("127.0.0.1 {port}");
        let replica = [&options[..], &["--replicaof", &of]].concat();
        let replicas = join_all([Redis::start_with(&replica), Redis::start_with(&replica)]).await;
        let config = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 6000\n\
             {sentinel}\n"
        );
        let sentinels = join_all((0..3).map(|_| Redis::start_sentinel(&config))).await;
        let set = Self {
            servers: [primary].into_iter().chain(replicas).collect(),
            sentinels,
        };
        // By default they look every ten seconds, and leave a returned primary alone for eight.
        for sentinel in &set.sentinels {
            let mut faster = cmd("SENTINEL");
            faster.arg("DEBUG").arg("INFO-PERIOD").arg(500);
            faster.arg("PUBLISH-PERIOD").arg(300);
            let answer: redis::RedisResult<()> = sentinel.ask(&faster).await;
            answer.expect("a Sentinel of redis 7 can be told its periods");
        }
        set.whole().await;
        set
    }

    /// The URL that names the three Sentinels and the service.
    pub fn url(&self) -> String {
        let hosts = self.sentinels.iter().map(|sentinel| {
            let port = sentinel.port();
            format!("127.0.0.1:{port}")
        });
        let hosts: Vec<_> = hosts.collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The servers, of which one is the primary: the first, in the beginning.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The three Sentinels.
    pub fn sentinels(&mut self) -> &mut [Redis] {
        &mut self.sentinels
    }

    /// The server that the Sentinels name as the primary.
    ///
    /// # Panics
    /// When none names one.
    pub async fn primary(&self) -> &Redis {
        &self.servers[self.primary_index().await]
    }

    /// A connection to the primary for the test's own commands.
    ///
    /// # Panics
    /// When there is none, or it does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.primary().await.connection().await
    }

    /// Kills the primary with SIGKILL. Its data stay.
    pub async fn kill_primary(&mut self) {
        let primary = self.primary_index().await;
        self.servers[primary].kill();
    }

    /// Freezes the primary with SIGSTOP.
    pub async fn pause_primary(&self) {
        self.primary().await.pause();
    }

    /// Lets whatever is frozen go on.
    pub fn resume(&self) {
        let all = self.servers.iter().chain(&self.sentinels);
        all.filter(|server| !server.is_killed())
            .for_each(Redis::resume);
    }

    /// Starts what was killed again, with its data, and returns when the set is whole.
    ///
    /// # Panics
    /// When a server does not start or does not become a replica in sync.
    pub async fn restart_dead(&mut self) {
        let all = self.servers.iter_mut().chain(&mut self.sentinels);
        join_all(all.map(async |server| {
            if server.is_killed() {
                server.restart().await;
            }
        }))
        .await;
        self.whole().await;
    }

    /// Has the Sentinels promote a replica although the primary lives, and returns when another is
    /// named as the primary and says that it is.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn failover(&self) {
        let before = self.primary_index().await;
        until("a replica to be promoted", async || {
            if self.named().await.is_some_and(|now| now != before) {
                return self.is_primary(self.primary_index().await).await;
            }
            let mut failover = cmd("SENTINEL");
            failover.arg("FAILOVER").arg(SERVICE);
            // It is refused while one goes on.
            let _: redis::RedisResult<()> = self.sentinels[0].ask(&failover).await;
            false
        })
        .await;
    }

    /// Waits until another server than `before` is the primary.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn promoted(&self, before: u16) {
        until("a replica to be promoted", async || {
            match self.named().await {
                Some(now) => self.servers[now].port() != before && self.is_primary(now).await,
                None => false,
            }
        })
        .await;
    }

    /// Waits until the primary has both replicas in sync and all Sentinels agree on it.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn whole(&self) {
        until(
            "a primary with two replicas and three Sentinels",
            async || {
                let Some(primary) = self.named().await else {
                    return false;
                };
                for (at, server) in self.servers.iter().enumerate() {
                    let role: Vec<Value> = server.ask(&cmd("ROLE")).await.unwrap_or_default();
                    let good = match &role[..] {
                        [kind, _, Value::Array(replicas)] if *kind == text("master") => {
                            at == primary && replicas.len() == 2
                        }
                        [kind, _, Value::Int(port), state, _] if *kind == text("slave") => {
                            *port == i64::from(self.servers[primary].port())
                                && *state == text("connected")
                        }
                        _ => false,
                    };
                    if !good {
                        return false;
                    }
                }
                let mut question = cmd("SENTINEL");
                question.arg("MASTER").arg(SERVICE);
                let port = self.servers[primary].port().to_string();
                for sentinel in &self.sentinels {
                    let known: redis::RedisResult<HashMap<String, String>> =
                        sentinel.ask(&question).await;
                    let is = |key: &str, value: &str| {
                        known
                            .as_ref()
                            .is_ok_and(|known| known.get(key).is_some_and(|v| v == value))
                    };
                    if !(is("port", &port)
                        && is("flags", "master")
                        && is("num-slaves", "2")
                        && is("num-other-sentinels", "2"))
                    {
                        return false;
                    }
                }
                true
            },
        )
        .await;
    }

    async fn primary_index(&self) -> usize {
        self.named().await.expect("a Sentinel names the primary")
    }

    /// The server that the first Sentinel to answer names.
    async fn named(&self) -> Option<usize> {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(SERVICE);
        for sentinel in self
            .sentinels
            .iter()
            .filter(|sentinel| sentinel.is_running())
        {
            let named: redis::RedisResult<(String, u16)> = sentinel.ask(&question).await;
            if let Ok((_, port)) = named {
                return self.servers.iter().position(|server| server.port() == port);
            }
        }
        None
    }

    async fn is_primary(&self, at: usize) -> bool {
        let role: redis::RedisResult<Vec<Value>> = self.servers[at].ask(&cmd("ROLE")).await;
        role.is_ok_and(|role| role.first() == Some(&text("master")))
    }
}

fn text(word: &str) -> Value {
    Value::BulkString(word.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
        let mut set = Sentinel::start().await;
        let mut primary = set.connection().await;
        cmd("SET")
            .arg("k")
            .arg("v")
            .exec_async(&mut primary)
            .await
            .unwrap();
        cmd("WAIT")
            .arg(2)
            .arg(5000)
            .exec_async(&mut primary)
            .await
            .unwrap();
        let before = set.primary().await.port();
        set.kill_primary().await;
        set.promoted(before).await;
        set.restart_dead().await;
        assert_ne!(set.primary().await.port(), before);
        let kept: String = set.primary().await.ask(cmd("GET").arg("k")).await.unwrap();
        assert_eq!(kept, "v");
    }
}
