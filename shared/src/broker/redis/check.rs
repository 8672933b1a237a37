//! What is looked at once, before a process uses a Redis.

use std::collections::HashMap;

use redis::{Value, cmd, pipe};
use tracing::{debug, warn};

use super::commands::Commands;
use super::keys;
use super::topology::Topology;
use crate::broker::BrokerError;

/// The oldest release with all the commands that are used.
const OLDEST: u32 = 7;

/// Checks that this Redis can be used, and with this many shards.
///
/// # Errors
/// [`BrokerError::Misconfigured`] when a person has to change something first.
pub(super) async fn check(
    topology: &Topology,
    commands: &Commands,
    shards: u16,
) -> Result<(), BrokerError> {
    let mut questions = pipe();
    questions
        .add_command(cmd("SET").arg(keys::SHARDS).arg(shards).arg("NX").take())
        .add_command(cmd("GET").arg(keys::SHARDS).take())
        .add_command(cmd("PUBLISH").arg(keys::PROBE).arg("").take())
        .add_command(cmd("INFO").arg("server").take())
        .add_command(
            cmd("CONFIG")
                .arg("GET")
                .arg("maxmemory-policy")
                .arg("appendonly")
                .take(),
        );
    let answers = commands.run(0, &questions).await?;
    let Ok([set, get, publish, info, config]) = <[Value; 5]>::try_from(answers) else {
        return Err(BrokerError::Unavailable(
            "Redis gave too few answers".into(),
        ));
    };
    let text = |value: Value| -> Result<String, BrokerError> {
        value
            .extract_error()
            .and_then(|value| Ok(redis::from_redis_value(value)?))
            .map_err(|error| topology.explain(&error))
    };

    match set.extract_error() {
        // A persister has to be able to start then: it makes room.
        Err(error) if error.code() == Some("OOM") && get != Value::Nil => {
            warn!("the memory of Redis is full: it accepts nothing until messages are stored");
        }
        set => drop(set.map_err(|error| topology.explain(&error))?),
    }
    let written = text(get)?;
    if written != shards.to_string() {
        return Err(BrokerError::Misconfigured(format!(
            "this Redis is set up with {written} shards, this process with {shards}: every \
             process needs the same --shards"
        )));
    }
    publish
        .extract_error()
        .map_err(|error| topology.explain(&error))?;
    match text(info) {
        Ok(info) => {
            let version = info
                .lines()
                .find_map(|line| line.strip_prefix("redis_version:"));
            let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
            if let (Some(version), Some(..OLDEST)) = (version, major) {
                return Err(BrokerError::Misconfigured(format!(
                    "this Redis is of version {version}; {OLDEST}.0 or newer is needed"
                )));
            }
        }
        Err(error) => debug!(%error, "Redis does not tell its version"),
    }
    let settings = config
        .extract_error()
        .and_then(|value| Ok(redis::from_redis_value(value)?));
    match settings {
        Ok(settings) => warn_of_loss(&settings),
        Err(error) => debug!(%error, "Redis does not tell its settings"),
    }
    Ok(())
}

fn warn_of_loss(settings: &HashMap<String, String>) {
    let setting = |name, wanted| settings.get(name).filter(|value| *value != wanted);
    if let Some(policy) = setting("maxmemory-policy", "noeviction") {
        warn!(
            %policy,
            "Redis may evict accepted messages when its memory is full: set maxmemory-policy to \
             noeviction"
        );
    }
    if setting("appendonly", "yes").is_some() {
        warn!("Redis forgets accepted messages when it ends: set appendonly to yes");
    }
}
