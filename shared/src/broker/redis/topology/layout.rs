//! Who has what at one time.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use redis::{ConnectionInfo, Value, from_redis_value};

use crate::broker::BrokerError;
use crate::broker::redis::connect::{Address, Connector};

/// Who has what at one time.
pub(in crate::broker::redis) struct Layout {
    /// The primaries that have something, each once.
    servers: Vec<Connector>,
    /// The place among them of each shard's primary, and behind those of the one with the number
    /// of shards.
    homes: Vec<usize>,
    /// The replicas of each of these that are held to be up.
    replicas: Vec<BTreeSet<Address>>,
    /// Replicas that are held to be down.
    down: BTreeSet<Address>,
    /// Primaries call their replicas by the same addresses.
    alike: bool,
}

/// A primary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Home {
    pub(super) address: Address,
    /// Those of its replicas that are held to be up.
    pub(super) replicas: BTreeSet<Address>,
}

impl Layout {
    /// Each shard's server, and behind them that of the number of shards.
    ///
    /// # Errors
    /// [`BrokerError::Misconfigured`] when `access` cannot be used.
    pub(super) fn new(
        access: &ConnectionInfo,
        homes: &[Home],
        down: BTreeSet<Address>,
        alike: bool,
    ) -> Result<Self, BrokerError> {
        let mut addresses: Vec<&Address> = homes.iter().map(|home| &home.address).collect();
        addresses.sort();
        addresses.dedup();
        let place = |home: &Home| {
            let found = addresses.binary_search(&&home.address);
            found.expect("it is among them")
        };
        let connector = |address: &&Address| Connector::new(access, Address::clone(address));
        Ok(Self {
            homes: homes.iter().map(place).collect(),
            replicas: homes.iter().map(|home| home.replicas.clone()).collect(),
            down,
            alike,
            servers: addresses.iter().map(connector).collect::<Result<_, _>>()?,
        })
    }

    /// The server that has a shard.
    pub(in crate::broker::redis) fn home(&self, shard: u16) -> &Connector {
        &self.servers[self.homes[usize::from(shard)]]
    }

    /// How many replicas must have what is to outlive a shard's server: those that are held to be
    /// up, any of which may be promoted, and those that follow it by what it says itself, any of
    /// which WAIT counts.
    pub(in crate::broker::redis) fn replicas(
        &self,
        shard: u16,
        following: &BTreeSet<Address>,
    ) -> usize {
        let up = &self.replicas[usize::from(shard)];
        let mut both = up.union(following);
        if self.alike && both.all(|one| one.host.parse::<IpAddr>().is_ok()) {
            return up.union(following).count();
        }
        up.len().max(following.len())
    }

    /// The replicas that follow a server, as it answers ROLE, without those that are held to be
    /// down: it may not have noticed. One that never says how far it is, as `redis-cli --replica`,
    /// is none.
    pub(in crate::broker::redis) fn following(&self, role: &Value) -> BTreeSet<Address> {
        let replicas = match role {
            Value::Array(role) => role.get(2).cloned().map(from_redis_value),
            _ => None,
        };
        let replicas: Vec<(String, u16, String)> =
            replicas.and_then(Result::ok).unwrap_or_default();
        let replicas = replicas.into_iter().filter(|(.., at)| at != "0");
        let replicas = replicas.map(|(host, port, _)| Address::new(host, port));
        replicas.filter(|one| !self.down.contains(one)).collect()
    }

    /// The server on which the number of shards is written.
    pub(in crate::broker::redis) fn registry(&self) -> &Connector {
        &self.servers[*self.homes.last().expect("there is one more than shards")]
    }

    /// The servers that have shards, each with its own.
    pub(in crate::broker::redis) fn servers(&self) -> impl Iterator<Item = (&Connector, Vec<u16>)> {
        let servers = self.servers.iter().enumerate().map(|(at, server)| {
            let shards = (0..).zip(&self.homes[..self.homes.len() - 1]);
            let shards = shards.filter(|(_, home)| **home == at);
            (server, shards.map(|(shard, _)| shard).collect::<Vec<u16>>())
        });
        servers.filter(|(_, shards)| !shards.is_empty())
    }

    /// The server, where one has everything.
    pub(super) fn only(&self) -> Option<&Connector> {
        match &self.servers[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Each shard's server, and behind them that of the number of shards.
    pub(super) fn homes(&self) -> impl Iterator<Item = Home> {
        let homes = self.homes.iter().zip(&self.replicas);
        homes.map(|(home, replicas)| Home {
            address: self.servers[*home].address().clone(),
            replicas: replicas.clone(),
        })
    }

    /// Whether each shard has the same server in both.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let addresses = self.homes().map(|home| home.address);
        addresses.eq(other.homes().map(|home| home.address))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = self.only() {
            return write!(f, "{}", server.address());
        }
        for (at, (server, shards)) in self.servers().enumerate() {
            let separator = if at > 0 { ", " } else { "" };
            let (address, shards) = (server.address(), shards.len());
            write!(f, "{separator}{address} ({shards} shards)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    fn layout(up: &[&str], alike: bool) -> Layout {
        let address = |host: &&str| Address::new(*host, 6379);
        let home = Home {
            address: Address::new("10.0.0.1", 6379),
            replicas: up.iter().map(address).collect(),
        };
        let access = "redis://a".into_connection_info().unwrap();
        let down = [address(&"10.0.0.9")].into();
        Layout::new(&access, &[home.clone(), home], down, alike).unwrap()
    }

    fn role(replicas: &[(&str, &str)]) -> Value {
        let word = |text: &str| Value::BulkString(text.into());
        let replica =
            |(host, at): &(&str, &str)| Value::Array(vec![word(host), word("6379"), word(at)]);
        let replicas = replicas.iter().map(replica).collect();
        Value::Array(vec![word("master"), Value::Int(7), Value::Array(replicas)])
    }

    #[test]
    fn a_replica_that_is_promoted_and_one_that_has_just_come_both_count() {
        for (up, alike, follow, count) in [
            (vec!["10.0.0.2"], true, vec![("10.0.0.3", "7")], 2),
            (vec!["10.0.0.2"], true, vec![("10.0.0.2", "7")], 1),
            // They may be the same.
            (vec!["redis-2"], true, vec![("10.0.0.2", "7")], 1),
            (vec!["192.0.2.2"], false, vec![("10.0.0.2", "7")], 1),
            // One that is down, and one that only listens.
            (
                vec!["10.0.0.2"],
                true,
                vec![("10.0.0.9", "7"), ("10.0.0.4", "0")],
                1,
            ),
            (vec![], true, vec![], 0),
        ] {
            let layout = layout(&up, alike);
            let following = layout.following(&role(&follow));
            assert_eq!(layout.replicas(0, &following), count, "{up:?}, {follow:?}");
        }
    }
}
