//! Scenarios in which one of several servers takes over from another.

use std::time::Duration;

use super::{CONTROL, FROZEN, PLAIN};
use crate::chaos::scenario::{Control, Fault, Scenario, System, Target};

/// Longer than the others take to notice and to elect.
const ELECTION: Duration = Duration::from_secs(4);

/// A RECEIPT does not wait for replicas.
const ALONE: Control = Control {
    about: "a receipt does not wait for replicas",
    common: &["--broker-replicas", "0"],
    ..CONTROL
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sentinel-killed",
        about: "SIGKILL of the primary of a Redis with Sentinels",
        system: System::Sentinel,
        faults: &[Fault::Kill(Target::Redis)],
        hold: ELECTION,
        ..PLAIN
    },
    Scenario {
        name: "sentinel-killed-ahead",
        about: "SIGKILL of that primary while its replicas lag behind",
        system: System::Sentinel,
        faults: &[Fault::KillAhead],
        hold: ELECTION,
        controls: &[ALONE],
        ..PLAIN
    },
    Scenario {
        name: "sentinel-frozen",
        about: "SIGSTOP of that primary, SIGCONT after a replica took over",
        system: System::Sentinel,
        faults: &[Fault::Freeze(Target::Redis)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "sentinel-failover",
        about: "SENTINEL FAILOVER",
        system: System::Sentinel,
        faults: &[Fault::Failover(Target::Redis)],
        ..PLAIN
    },
    Scenario {
        name: "cluster-killed",
        about: "SIGKILL of a master of a Redis Cluster",
        system: System::Cluster,
        faults: &[Fault::Kill(Target::Redis)],
        hold: ELECTION,
        ..PLAIN
    },
    Scenario {
        name: "cluster-killed-ahead",
        about: "SIGKILL of such a master while its replica lags behind",
        system: System::Cluster,
        faults: &[Fault::KillAhead],
        hold: ELECTION,
        controls: &[ALONE],
        ..PLAIN
    },
    Scenario {
        name: "cluster-frozen",
        about: "SIGSTOP of such a master, SIGCONT after its replica took over",
        system: System::Cluster,
        faults: &[Fault::Freeze(Target::Redis)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "cluster-failover",
        about: "CLUSTER FAILOVER",
        system: System::Cluster,
        faults: &[Fault::Failover(Target::Redis)],
        ..PLAIN
    },
    Scenario {
        name: "cluster-migrated",
        about: "a slot with its keys moves to another master while it is used",
        system: System::Cluster,
        faults: &[Fault::Migrate],
        ..PLAIN
    },
    Scenario {
        name: "mongo-primary-killed",
        about: "SIGKILL of the primary of a MongoDB replica set of three",
        system: System::MongoSet,
        faults: &[Fault::Kill(Target::Mongo)],
        ..PLAIN
    },
    Scenario {
        name: "mongo-primary-frozen",
        about: "SIGSTOP of that primary, SIGCONT after another was elected",
        system: System::MongoSet,
        faults: &[Fault::Freeze(Target::Mongo)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "mongo-primary-stepped-down",
        about: "replSetStepDown",
        system: System::MongoSet,
        faults: &[Fault::Failover(Target::Mongo)],
        ..PLAIN
    },
];
