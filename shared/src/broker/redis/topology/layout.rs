//! Who has what at one time.

use std::fmt;

use redis::ConnectionInfo;

use crate::broker::BrokerError;
use crate::broker::redis::connect::{Address, Connector};

/// Who has what at one time.
pub(in crate::broker::redis) struct Layout {
    /// The primaries that have something, each once.
    servers: Vec<Connector>,
    /// The place among them of each shard's primary, and behind those of the one with the number
    /// of shards.
    homes: Vec<usize>,
}

impl Layout {
    /// Each shard's server, and behind them that of the number of shards.
    ///
    /// # Errors
    /// [`BrokerError::Misconfigured`] when `access` cannot be used.
    pub(super) fn new(access: &ConnectionInfo, homes: &[Address]) -> Result<Self, BrokerError> {
        let mut addresses: Vec<&Address> = homes.iter().collect();
        addresses.sort();
        addresses.dedup();
        let place = |home: &Address| addresses.binary_search(&home).expect("it is among them");
        let connector = |address: &&Address| Connector::new(access, Address::clone(address));
        Ok(Self {
            homes: homes.iter().map(place).collect(),
            servers: addresses.iter().map(connector).collect::<Result<_, _>>()?,
        })
    }

    /// The server that has a shard.
    pub(in crate::broker::redis) fn home(&self, shard: u16) -> &Connector {
        &self.servers[self.homes[usize::from(shard)]]
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
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.homes.iter().map(|home| self.servers[*home].address())
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.addresses().eq(other.addresses())
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
