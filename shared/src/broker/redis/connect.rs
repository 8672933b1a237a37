//! Making connections, and saying what it means when one cannot be had.

use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, ServerErrorKind,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::Backoff;
use crate::broker::BrokerError;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    commands: Client,
    subscriptions: Client,
}

impl Connector {
    /// # Errors
    /// [`BrokerError::Misconfigured`] when the URL cannot be used.
    pub(super) fn new(url: &str) -> Result<Self, BrokerError> {
        let client = |protocol| {
            // What fills one pipeline must leave at once: by default it waits for an answer first.
            let info = url.into_connection_info()?;
            let redis = info.redis_settings().clone().set_protocol(protocol);
            let tcp = TcpSettings::default().set_nodelay(true);
            Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp))
        };
        let misconfigured = |error: RedisError| {
            BrokerError::Misconfigured(format!("the Redis URL cannot be used: {error}"))
        };
        Ok(Self {
            commands: client(ProtocolVersion::RESP2).map_err(misconfigured)?,
            subscriptions: client(ProtocolVersion::RESP3).map_err(misconfigured)?,
        })
    }

    /// A connection for commands, each of which fails when it is not answered in time.
    pub(super) async fn commands(&self, timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(timeout));
        self.commands
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// A connection for subscriptions only; what arrives is given to `push`, which must not block.
    pub(super) async fn subscriptions(
        &self,
        timeout: Duration,
        push: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(timeout))
            .set_push_sender(push);
        self.subscriptions
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Where the server is.
    pub(super) fn address(&self) -> String {
        self.commands.get_connection_info().addr().to_string()
    }

    /// Repeats an attempt until it succeeds, is hopeless, or the time is over.
    pub(super) async fn insist<'a, T>(
        &self,
        timeout: Duration,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let server = self.commands.get_connection_info().addr();
        let mut reason = format!("Redis at {server} does not answer");
        loop {
            match timeout_at(deadline, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(BrokerError::Misconfigured(line))) => {
                    return Err(BrokerError::Misconfigured(line));
                }
                Ok(Err(BrokerError::Unavailable(line))) => reason = line,
                Err(_) => {}
            }
            if timeout_at(deadline, sleep(backoff.next())).await.is_err() {
                return Err(BrokerError::Unavailable(reason));
            }
        }
    }

    /// Says what an error means, naming the server and no password.
    pub(super) fn explain(&self, error: &RedisError) -> BrokerError {
        let server = self.commands.get_connection_info().addr();
        let line = format!("Redis at {server}: {error}");
        match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported
            | ErrorKind::Server(ServerErrorKind::NoPerm) => BrokerError::Misconfigured(line),
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                BrokerError::Misconfigured(line)
            }
            _ => BrokerError::Unavailable(line),
        }
    }
}
