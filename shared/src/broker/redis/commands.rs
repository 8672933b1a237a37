//! A shared connection for commands, made again when it breaks.

use std::time::Duration;

use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

use super::topology::Topology;
use crate::broker::BrokerError;

/// Runs commands that may be repeated without harm.
pub(super) struct Commands {
    topology: Topology,
    timeout: Duration,
    reconnects: IntCounter,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that only the one that failed is given up.
    made: u64,
}

impl Commands {
    /// Connects at the first command. Every [`Self::run`] ends within `timeout`.
    pub(super) fn new(topology: Topology, timeout: Duration, reconnects: IntCounter) -> Self {
        Self {
            topology,
            timeout,
            reconnects,
            link: Mutex::default(),
        }
    }

    /// Sends commands together and returns their answers; one that the server refuses has its
    /// error as its value.
    ///
    /// # Errors
    /// [`BrokerError`] when the server has not answered, after a second attempt if time allows.
    pub(super) async fn run(&self, pipeline: &Pipeline) -> Result<Vec<Value>, BrokerError> {
        let attempts = async {
            // The connection may have died unnoticed since it was last used.
            match self.attempt(pipeline).await {
                Err(BrokerError::Unavailable(_)) => self.attempt(pipeline).await,
                answer => answer,
            }
        };
        let late = || BrokerError::Unavailable("Redis does not answer in time".into());
        timeout(self.timeout, attempts)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// How many connections were made so far. When it is greater after a [`Self::run`] than before,
    /// the server may have carried out the commands twice, and answered into a broken connection
    /// the first time.
    pub(super) async fn connections(&self) -> u64 {
        self.link.lock().await.made
    }

    async fn attempt(&self, pipeline: &Pipeline) -> Result<Vec<Value>, BrokerError> {
        let (mut connection, number) = self.connection().await?;
        match connection
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await
        {
            Ok(values) => Ok(values),
            Err(error) => {
                let mut link = self.link.lock().await;
                if link.made == number {
                    link.connection = None;
                }
                let error = self.topology.explain(&error);
                warn!(%error, "a connection for commands is given up");
                Err(error)
            }
        }
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), BrokerError> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok((connection.clone(), link.made));
        }
        // Half of the time, so that a frozen connection is noticed while someone still waits.
        let made = self
            .topology
            .layout()
            .home(0)
            .commands(self.timeout / 2)
            .await;
        let connection = made.map_err(|error| self.topology.explain(&error))?;
        if link.made > 0 {
            self.reconnects.inc();
        }
        link.made += 1;
        link.connection = Some(connection.clone());
        Ok((connection, link.made))
    }
}
