//! The supervised connections for subscriptions, one to each server that has shards: a frozen one is
//! noticed, a broken one made anew, a shard that moves followed, for ever; and it is said when
//! something may have been missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use prometheus::IntCounter;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::connect::Connector;
use super::registry::Registry;
use super::session::{Listener, Scope, Session};
use super::topology::{Layout, Topology};
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::config::{BrokerSettings, Protection};

/// What links are for.
#[derive(Clone)]
pub(super) struct Links {
    pub(super) topology: Topology,
    pub(super) scope: Scope,
    pub(super) registry: Arc<Registry>,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) settings: BrokerSettings,
    pub(super) reconnects: IntCounter,
}

/// A server and the shards for which there is a link to it.
#[derive(Clone)]
struct Home {
    server: Connector,
    shards: Vec<u16>,
}

struct Running {
    home: Home,
    _task: AbortOnDropHandle<()>,
}

impl Links {
    /// Makes every link and keeps them all up, where the shards are, until `ended`.
    ///
    /// # Errors
    /// [`BrokerError`] when they cannot be had within the connect deadline.
    pub(super) async fn start(
        self,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<AbortOnDropHandle<()>, BrokerError> {
        let sessions = self
            .topology
            .insist(self.settings.connect_timeout, || self.connect().boxed())
            .await?;
        let running = sessions.into_iter().map(|(home, mut session)| {
            session.begin(false);
            self.run(home, Some(session))
        });
        let running = running.collect();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                () = self.follow(running) => {}
                () = ended => {}
            }
        })))
    }

    fn probes(&self) -> bool {
        !self.settings.without.has(Protection::LinkProbe)
    }

    async fn connect(&self) -> Result<Vec<(Home, Session)>, BrokerError> {
        let homes = self.homes(&self.topology.layout());
        let sessions = homes.into_iter().map(async |home| {
            let session = self.open(&home).await?;
            Ok((home, session))
        });
        try_join_all(sessions).await
    }

    /// Channels that are not sharded are heard at any server, so that one suffices.
    fn homes(&self, layout: &Layout) -> Vec<Home> {
        if !matches!(self.scope, Scope::ShardedRooms(_)) {
            return vec![Home {
                server: layout.home(0).clone(),
                shards: (0..self.settings.shards).collect(),
            }];
        }
        let homes = layout.servers().map(|(server, shards)| Home {
            server: server.clone(),
            shards,
        });
        homes.filter(|home| !home.shards.is_empty()).collect()
    }

    /// Replaces links as the shards move. A link to a server that has lost or gained some is made
    /// anew: what is heard on it in between is no more than the gap covers.
    async fn follow(&self, mut running: Vec<Running>) {
        if !self.probes() {
            return std::future::pending().await;
        }
        let mut layouts = self.topology.watch();
        loop {
            let homes = self.homes(&layouts.borrow_and_update());
            running.retain(|link| {
                let stays = homes.iter().any(|home| home.is_same(&link.home));
                if !stays {
                    let server = link.home.server.address();
                    info!(%server, "a link to Redis is left: its shards have moved");
                }
                stays
            });
            for home in homes {
                if !running.iter().any(|link| link.home.is_same(&home)) {
                    self.reconnects.inc();
                    running.push(self.run(home, None));
                }
            }
            if layouts.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn run(&self, home: Home, first: Option<Session>) -> Running {
        let links = self.clone();
        let of_link = home.clone();
        let supervised = async move {
            let mut next = first;
            loop {
                let session = match next.take() {
                    Some(session) => session,
                    None => links.reconnect(&of_link).await,
                };
                let server = of_link.server.address();
                let error = session.serve(links.probes()).await;
                warn!(%server, %error, "a link to Redis is lost");
                links.reconnects.inc();
                links.topology.suspect();
            }
        };
        Running {
            home,
            _task: AbortOnDropHandle::new(tokio::spawn(supervised)),
        }
    }

    async fn reconnect(&self, home: &Home) -> Session {
        let server = home.server.address();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match self.open(home).await {
                Ok(mut session) => {
                    session.begin(true);
                    info!(%server, "a link to Redis is back");
                    return session;
                }
                Err(error) => debug!(%server, %error, "a link to Redis cannot be had"),
            }
            sleep(backoff.next()).await;
        }
    }

    async fn open(&self, home: &Home) -> Result<Session, BrokerError> {
        let shards = home.shards.clone();
        let opened = Session::open(
            &home.server,
            self.scope,
            &self.registry,
            shards,
            &self.listener,
        )
        .await;
        if opened.is_err() {
            self.topology.suspect();
        }
        opened
    }
}

impl Home {
    fn is_same(&self, other: &Self) -> bool {
        self.server.address() == other.server.address() && self.shards == other.shards
    }
}
