//! Asking servers, over connections that are kept from one time to the next.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, Pipeline, RedisError, RedisResult, Value};
use tokio::time::timeout;

use crate::broker::BrokerError;
use crate::broker::redis::connect::{Address, Connector, explain};

/// How long a server may take, connecting included. One that is frozen holds up the others'
/// answers for so long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Asks servers that are all reached in the same way.
pub(in crate::broker::redis) struct Inquiry {
    access: ConnectionInfo,
    /// What they are called in errors.
    kind: &'static str,
    connections: Mutex<HashMap<Address, MultiplexedConnection>>,
}

/// The answers of one server, in the order of the questions; what it refused is an error.
pub(in crate::broker::redis) type Answers = Vec<RedisResult<Value>>;

impl Inquiry {
    pub(in crate::broker::redis) fn new(access: ConnectionInfo, kind: &'static str) -> Self {
        Self {
            access,
            kind,
            connections: Mutex::default(),
        }
    }

    /// Asks all of them at once, and forgets the connections to any others. Returns within two
    /// seconds, whoever answers.
    pub(in crate::broker::redis) async fn ask_all(
        &self,
        servers: &[Address],
        questions: &Pipeline,
    ) -> Vec<(Address, Result<Answers, BrokerError>)> {
        let asked = servers.iter().map(async |server| {
            let answers = self.ask(server, questions).await;
            (server.clone(), answers)
        });
        let answers = join_all(asked).await;
        self.connections()
            .retain(|server, _| servers.contains(server));
        answers
    }

    /// Asks one.
    ///
    /// # Errors
    /// [`BrokerError`] when it does not answer.
    pub(in crate::broker::redis) async fn ask(
        &self,
        server: &Address,
        questions: &Pipeline,
    ) -> Result<Answers, BrokerError> {
        let kept = self.connections().remove(server);
        let asking = async {
            if let Some(kept) = kept
                && let Ok(answers) = self.put(server, kept, questions).await
            {
                return Ok(answers);
            }
            // The one that was kept may have died since.
            let connector = Connector::new(&self.access, server.clone())?;
            let made = connector.commands(ANSWER_TIMEOUT).await;
            let made = made.map_err(|error| self.explain(server, &error))?;
            let answers = self.put(server, made, questions).await;
            answers.map_err(|error| self.explain(server, &error))
        };
        let late = || {
            let kind = self.kind;
            BrokerError::Unavailable(format!("{kind} at {server} does not answer"))
        };
        timeout(ANSWER_TIMEOUT, asking)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Says what a server's error means.
    pub(super) fn explain(&self, server: &Address, error: &RedisError) -> BrokerError {
        explain(&format!("{} at {server}", self.kind), error)
    }

    async fn put(
        &self,
        server: &Address,
        mut connection: MultiplexedConnection,
        questions: &Pipeline,
    ) -> RedisResult<Answers> {
        let count = questions.len();
        let answers = connection.send_packed_commands(questions, 0, count).await?;
        self.connections().insert(server.clone(), connection);
        Ok(answers.into_iter().map(Value::extract_error).collect())
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<Address, MultiplexedConnection>> {
        let connections = self.connections.lock();
        connections.expect("no one panics while holding the connections")
    }
}

/// What the failures of all servers mean together: what most needs a person, or the last one.
pub(super) fn together(failures: Vec<BrokerError>) -> BrokerError {
    let hopeless = failures
        .iter()
        .find(|error| matches!(error, BrokerError::Misconfigured(_)));
    match (hopeless, failures.last()) {
        (Some(error), _) | (None, Some(error)) => error.clone(),
        (None, None) => BrokerError::Unavailable("there is no server to ask".into()),
    }
}
