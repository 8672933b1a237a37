//! Scenarios of the standalone server, of restarts in turn, and of what the load itself brings about.

use std::time::Duration;

use super::{FROZEN, PLAIN, WITHOUT_AFTER};
use crate::chaos::load::SlowReader;
use crate::chaos::scenario::{Fault, Scenario, System, Target};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "slow-reader",
        about: "a subscriber that does not read is cut off, and comes back with `after`",
        faults: &[Fault::Nothing],
        hold: Duration::from_secs(8),
        gateway: &["--max-frame-bytes", "16KiB", "--max-outbox-bytes", "64KiB"],
        load: |load| {
            (load.rooms, load.members, load.rate, load.body_bytes) = (1, 4, 60.0, 15_000);
            load.slow_reader = Some(SlowReader {
                members: 1,
                reads: Duration::from_secs(1),
                // Longer than what the system's own buffers hold takes to come.
                stops: Duration::from_secs(6),
            });
        },
        witness: Some("roomcast_gateway_disconnects_total{reason=\"slow-consumer\"}"),
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "rolling-restart",
        about: "every gateway drained and started again, one after the other, under load",
        faults: &[Fault::Roll],
        load: |load| load.members = 20,
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "standalone-killed",
        about: "SIGKILL of `roomcast` in the middle of a burst",
        system: System::Standalone,
        faults: &[Fault::Kill(Target::Gateway)],
        load: |load| load.rate = 500.0,
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "standalone-terminated",
        about: "SIGTERM of `roomcast`",
        system: System::Standalone,
        faults: &[Fault::Terminate(Target::Gateway)],
        controls: &[WITHOUT_AFTER],
        ..PLAIN
    },
    Scenario {
        name: "standalone-frozen",
        about: "SIGSTOP of `roomcast` for longer than every time-out, then SIGCONT",
        system: System::Standalone,
        faults: &[Fault::Freeze(Target::Gateway)],
        hold: FROZEN,
        ..PLAIN
    },
    Scenario {
        name: "standalone-full-disk",
        about: "the files of `roomcast` cannot grow; then there is room again",
        system: System::Standalone,
        faults: &[Fault::FullDisk],
        hold: Duration::from_secs(6),
        witness: Some("roomcast_persister_retries_total"),
        ..PLAIN
    },
    Scenario {
        name: "storm",
        about: "5,000 clients, and every gateway restarted, one after the other",
        faults: &[Fault::Roll],
        load: |load| {
            (load.rooms, load.members, load.senders, load.rate) = (500, 10, 1, 100.0);
            // Two cores need a while for as many, and must not take those that wait for dead.
            load.heart_beat = Duration::from_secs(15);
            (load.opening, load.start_within) = (Duration::from_secs(30), Duration::from_secs(180));
        },
        measured: true,
        ..PLAIN
    },
];
