//! One server, which has everything for ever.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::ConnectionInfo;

use super::layout::Home;
use super::{Layout, Source};
use crate::broker::BrokerError;
use crate::broker::redis::connect::Address;

/// `redis://`.
pub(super) struct Single {
    pub(super) access: ConnectionInfo,
    pub(super) server: Address,
    pub(super) shards: u16,
}

impl Source for Single {
    fn look<'a>(&'a self, _: Option<&'a Layout>) -> BoxFuture<'a, Result<Layout, BrokerError>> {
        // What has no successors needs no replicas.
        let home = Home {
            address: self.server.clone(),
            replicas: BTreeSet::new(),
        };
        let homes = vec![home; usize::from(self.shards) + 1];
        async move { Layout::new(&self.access, &homes, BTreeSet::new(), true) }.boxed()
    }
}
