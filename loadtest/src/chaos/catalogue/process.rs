//! Scenarios in which a process of a single system ends or freezes, or has no room left.

use std::time::Duration;

use super::{CONTROL, FORGETFUL_REDIS, FROZEN, PLAIN, WITHOUT_AFTER, WITHOUT_KEYS};
use crate::chaos::scenario::{Control, Fault, Link, Scenario, Target, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "gateway-killed",
        about: "SIGKILL of a gateway",
        faults: &[Fault::Kill(Target::Gateway)],
        controls: &[WITHOUT_AFTER, WITHOUT_KEYS],
        ..PLAIN
    },
    Scenario {
        name: "gateway-terminated",
        about: "SIGTERM of a gateway, which drains",
        faults: &[Fault::Terminate(Target::Gateway)],
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "gateway-frozen",
        about: "SIGSTOP of a gateway for longer than every time-out, then SIGCONT",
        faults: &[Fault::Freeze(Target::Gateway)],
        hold: FROZEN,
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "persister-killed",
        about: "SIGKILL of a persister",
        faults: &[Fault::Kill(Target::Persister)],
        ..PLAIN
    },
    Scenario {
        name: "persister-killed-storing",
        about: "SIGKILL of a persister before the store answers it",
        faults: &[Fault::KillStoring],
        load: |load| load.stored = 1.0,
        controls: &[
            Control {
                about: "entries are acknowledged before the store has them",
                common: &["--without", "store-first"],
                ..CONTROL
            },
            Control {
                about: "nobody takes over from a persister",
                common: &["--without", "takeover"],
                ..CONTROL
            },
        ],
        ..PLAIN
    },
    Scenario {
        name: "persister-unacknowledged",
        about: "SIGKILL of a persister between the store's answer and the acknowledgement",
        faults: &[Fault::Unacknowledged],
        ..PLAIN
    },
    Scenario {
        name: "persister-terminated",
        about: "SIGTERM of a persister",
        faults: &[Fault::Terminate(Target::Persister)],
        ..PLAIN
    },
    Scenario {
        name: "persister-frozen",
        about: "SIGSTOP of a persister, whose work another takes over, then SIGCONT",
        faults: &[Fault::Freeze(Target::Persister)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "redis-killed",
        about: "SIGKILL of Redis with what is not stored yet, started again on its append-only file",
        faults: &[Fault::Kill(Target::Redis)],
        controls: &[FORGETFUL_REDIS],
        ..PLAIN
    },
    Scenario {
        name: "redis-terminated",
        about: "SIGTERM of Redis with what is not stored yet, started again",
        faults: &[Fault::Terminate(Target::Redis)],
        controls: &[FORGETFUL_REDIS],
        ..PLAIN
    },
    Scenario {
        name: "redis-frozen",
        about: "SIGSTOP of Redis for longer than every time-out, then SIGCONT",
        faults: &[Fault::Freeze(Target::Redis)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "redis-full",
        about: "Redis at its maxmemory while every persister is frozen; SENDs are refused",
        faults: &[Fault::FillRedis],
        hold: Duration::from_secs(8),
        common: &["--recent-max", "20"],
        load: |load| load.body_bytes = 1000,
        witness: Some("roomcast_gateway_publish_failures_total"),
        controls: &[Control {
            about: "Redis evicts what was used least recently",
            redis: &["--maxmemory-policy", "allkeys-lru"],
            ..CONTROL
        }],
        ..PLAIN
    },
    Scenario {
        name: "mongod-killed",
        about: "SIGKILL of MongoDB, started again",
        faults: &[Fault::Kill(Target::Mongo)],
        ..PLAIN
    },
    Scenario {
        name: "mongod-terminated",
        about: "SIGTERM of MongoDB, started again",
        faults: &[Fault::Terminate(Target::Mongo)],
        ..PLAIN
    },
    Scenario {
        name: "mongod-frozen",
        about: "SIGSTOP of MongoDB for longer than every time-out, then SIGCONT",
        faults: &[Fault::Freeze(Target::Mongo)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "journal-full",
        about: "MongoDB away for longer than the journal's bound; SENDs are refused",
        faults: &[Fault::Kill(Target::Mongo), Fault::Freeze(Target::Mongo)],
        hold: Duration::from_secs(8),
        common: &["--journal-max", "200"],
        witness: Some("roomcast_gateway_disconnects_total{reason=\"journal-full\"}"),
        ..PLAIN
    },
    Scenario {
        name: "everything",
        about: "any part killed, terminated or frozen, any network reset, each in 20 rounds, in random order",
        faults: &[
            Fault::Kill(Target::Gateway),
            Fault::Kill(Target::Persister),
            Fault::Kill(Target::Persisters),
            Fault::Kill(Target::Redis),
            Fault::Kill(Target::Mongo),
            Fault::Terminate(Target::Gateway),
            Fault::Terminate(Target::Persister),
            Fault::Terminate(Target::Redis),
            Fault::Terminate(Target::Mongo),
            Fault::Freeze(Target::Gateway),
            Fault::Freeze(Target::Persister),
            Fault::Freeze(Target::Redis),
            Fault::Freeze(Target::Mongo),
            Fault::KillStoring,
            Fault::Unacknowledged,
            Fault::Network(Link::ClientGateway, Trouble::Reset),
            Fault::Network(Link::GatewayRedis, Trouble::Reset),
            Fault::Network(Link::GatewayMongo, Trouble::Reset),
            Fault::Network(Link::PersisterRedis, Trouble::Reset),
            Fault::Network(Link::PersisterMongo, Trouble::Reset),
        ],
        hold: Duration::from_secs(3),
        controls: &[FORGETFUL_REDIS],
        ..PLAIN
    },
];
