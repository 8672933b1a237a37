//! What is looked at before a Redis is used: at the start, and where a server comes later.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Pipeline, RedisResult, Value, cmd, from_redis_value, pipe};
use tracing::{debug, warn};

use super::connect::Connector;
use super::keys;
use super::topology::Topology;
use crate::broker::BrokerError;
use crate::config::BrokerSettings;

/// The oldest release with all the commands that are used.
const OLDEST: u32 = 7;

/// How long a server may take for its answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server should be.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) cluster: bool,
    /// How many replicas an answer waits for.
    pub(super) replicas: u8,
}

impl Expected {
    pub(super) fn new(cluster: bool, settings: &BrokerSettings) -> Self {
        Self {
            cluster,
            replicas: settings.wanted_replicas(),
        }
    }
}

/// Checks that this Redis can be used, and with this many shards.
///
/// # Errors
/// [`BrokerError::Misconfigured`] when a person has to change something first.
pub(super) async fn check(
    topology: &Topology,
    settings: &BrokerSettings,
) -> Result<(), BrokerError> {
    let layout = topology.layout();
    let expected = Expected::new(topology.is_cluster(), settings);
    // First of all whether it is what the URL says: a node of a cluster refuses another's keys.
    for (server, _) in layout.servers() {
        inspect(server, expected).await?;
    }
    same_shards(layout.registry(), settings.shards).await
}

/// Checks one server that holds messages, and warns of how it may lose them.
///
/// # Errors
/// [`BrokerError::Misconfigured`] when it cannot be used.
pub(super) async fn inspect(server: &Connector, expected: Expected) -> Result<(), BrokerError> {
    let mut questions = pipe();
    questions
        .add_command(cmd("INFO").arg("server").take())
        .add_command(cmd("INFO").arg("replication").take())
        .add_command(cmd("PUBLISH").arg(keys::PROBE).arg("").take())
        .add_command(
            cmd("CONFIG")
                .arg("GET")
                .arg("maxmemory-policy")
                .arg("appendonly")
                .take(),
        );
    let [info, replication, publish, config] = ask(server, &questions).await?;
    match text(info) {
        Ok(info) => usable(server, &info, expected)?,
        Err(error) => debug!(%error, "Redis does not tell its version"),
    }
    publish.map_err(|error| server.explain(&error))?;
    let address = server.address();
    match config.and_then(|value| Ok(from_redis_value(value)?)) {
        Ok(settings) => warn_of_loss(server, &settings),
        Err(error) => debug!(%address, %error, "Redis does not tell its settings"),
    }
    let replicas = text(replication).ok();
    let replicas = replicas.and_then(|info| field(&info, "connected_slaves")?.parse::<u8>().ok());
    if let Some(replicas) = replicas.filter(|replicas| *replicas < expected.replicas) {
        warn!(
            %address, replicas, waits_for = expected.replicas,
            "Redis accepts nothing: it has fewer replicas than an answer waits for \
             (--broker-replicas)"
        );
    } else if expected.replicas > 0 && replicas == Some(expected.replicas) {
        warn!(
            %address, replicas = expected.replicas,
            "Redis accepts nothing when it loses a replica: have one more than an answer waits \
             for (--broker-replicas)"
        );
    }
    Ok(())
}

/// Writes the number of shards where it is not written, and compares it where it is.
async fn same_shards(server: &Connector, shards: u16) -> Result<(), BrokerError> {
    let mut questions = pipe();
    questions
        .add_command(cmd("SET").arg(keys::SHARDS).arg(shards).arg("NX").take())
        .add_command(cmd("GET").arg(keys::SHARDS).take());
    let [set, get] = ask(server, &questions).await?;
    let written = get.map_err(|error| server.explain(&error))?;
    match set {
        // A persister has to be able to start then: it makes room.
        Err(error) if error.code() == Some("OOM") && written != Value::Nil => {
            warn!("the memory of Redis is full: it accepts nothing until messages are stored");
        }
        set => drop(set.map_err(|error| server.explain(&error))?),
    }
    let written = text(Ok(written)).map_err(|error| server.explain(&error))?;
    if written != shards.to_string() {
        return Err(BrokerError::Misconfigured(format!(
            "this Redis is set up with {written} shards, this process with {shards}: every \
             process needs the same --shards"
        )));
    }
    Ok(())
}

async fn ask<const N: usize>(
    server: &Connector,
    questions: &Pipeline,
) -> Result<[RedisResult<Value>; N], BrokerError> {
    let asking = async {
        let mut connection = server.commands(ANSWER_TIMEOUT).await?;
        connection
            .send_packed_commands(questions, 0, questions.len())
            .await
    };
    let answers = asking.await.map_err(|error| server.explain(&error))?;
    let answers: Vec<_> = answers.into_iter().map(Value::extract_error).collect();
    let few = |_| BrokerError::Unavailable("Redis gave too few answers".into());
    answers.try_into().map_err(few)
}

fn usable(server: &Connector, info: &str, expected: Expected) -> Result<(), BrokerError> {
    let address = server.address();
    let right = match (field(info, "redis_mode"), expected.cluster) {
        (Some("cluster"), false) => Some(format!(
            "is a node of a Redis Cluster: give redis+cluster://{address}"
        )),
        (Some("sentinel"), _) => Some(format!(
            "is a Sentinel: give redis+sentinel://{address}/SERVICE, with the name of `sentinel \
             monitor`"
        )),
        (Some("standalone"), true) => {
            Some(format!("is not part of a cluster: give redis://{address}"))
        }
        _ => None,
    };
    if let Some(right) = right {
        return Err(BrokerError::Misconfigured(format!(
            "Redis at {address} {right}"
        )));
    }
    let version = field(info, "redis_version");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if let (Some(version), Some(..OLDEST)) = (version, major) {
        return Err(BrokerError::Misconfigured(format!(
            "Redis at {address} is of version {version}; {OLDEST}.0 or newer is needed"
        )));
    }
    Ok(())
}

fn warn_of_loss(server: &Connector, settings: &HashMap<String, String>) {
    let address = server.address();
    let setting = |name, wanted| settings.get(name).filter(|value| *value != wanted);
    if let Some(policy) = setting("maxmemory-policy", "noeviction") {
        warn!(
            %address, %policy,
            "Redis may evict accepted messages when its memory is full: set maxmemory-policy to \
             noeviction"
        );
    }
    if setting("appendonly", "yes").is_some() {
        warn!(%address, "Redis forgets accepted messages when it ends: set appendonly to yes");
    }
}

fn text(value: RedisResult<Value>) -> RedisResult<String> {
    Ok(from_redis_value(value?)?)
}

/// A line of `INFO`.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
