//! Making connections, and saying what it means when one cannot be had.

use std::time::Duration;
use std::{fmt, io};

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    RedisError, RedisResult, ServerErrorKind,
};

use super::wire::Wire;
use crate::broker::BrokerError;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Makes the connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    address: Address,
    client: Client,
}

impl Connector {
    /// A server at this address that is reached as `access` says: its encryption, user, password
    /// and database.
    ///
    /// # Errors
    /// [`BrokerError::Misconfigured`] when the client library refuses that.
    pub(super) fn new(access: &ConnectionInfo, address: Address) -> Result<Self, BrokerError> {
        let (host, port) = (address.host.clone(), address.port);
        let place = match access.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        // What fills one pipeline must leave at once: by default it waits for an answer first.
        let tcp = TcpSettings::default().set_nodelay(true);
        let redis = access.redis_settings().clone();
        let redis = redis.set_protocol(ProtocolVersion::RESP2);
        let info = access.clone().set_addr(place).set_redis_settings(redis);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(|error| {
            BrokerError::Misconfigured(format!("the Redis URL cannot be used: {error}"))
        })?;
        Ok(Self { client, address })
    }

    /// Where the server is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// A connection for commands, each of which fails when it is not answered in time.
    pub(super) async fn commands(&self, timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(timeout));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// A connection that its user drives.
    pub(super) async fn wire(&self) -> RedisResult<Wire> {
        let opening = Wire::open(self.client.get_connection_info());
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// Says what an error means, naming the server and no password.
    pub(super) fn explain(&self, error: &RedisError) -> BrokerError {
        explain(&format!("Redis at {}", self.address), error)
    }
}

/// Says what an error of `whom` means.
pub(super) fn explain(whom: &str, error: &RedisError) -> BrokerError {
    let line = format!("{whom}: {error}");
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Server(ServerErrorKind::NoPerm) => BrokerError::Misconfigured(line),
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
            BrokerError::Misconfigured(line)
        }
        _ => BrokerError::Unavailable(line),
    }
}
