//! The table of scenarios.

mod failover;
mod load;
mod network;
mod process;

use std::time::Duration;

use super::scenario::{AS_IT_IS, Control, Scenario, System};

/// Every scenario, in the order in which they are run.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    let tables = [
        process::SCENARIOS,
        network::SCENARIOS,
        failover::SCENARIOS,
        load::SCENARIOS,
    ];
    tables.into_iter().flatten()
}

/// Longer than every time-out between a system's parts.
const FROZEN: Duration = Duration::from_secs(9);

/// What a scenario is where it does not say otherwise.
const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    system: System::Single,
    faults: &[],
    hold: Duration::from_millis(500),
    common: &[],
    gateway: &[],
    redis: &[],
    load: AS_IT_IS,
    witness: None,
    measured: false,
    controls: &[],
};

/// What a control takes away where it does not say otherwise: nothing.
const CONTROL: Control = Control {
    about: "",
    common: &[],
    redis: &[],
    load: AS_IT_IS,
};

const WITHOUT_AFTER: Control = Control {
    about: "clients come back without `after`",
    load: |load| load.resume = false,
    ..CONTROL
};

/// All receipts wait for the store, so that a kill finds some that are due.
const WITHOUT_KEYS: Control = Control {
    about: "clients repeat without an idempotency key",
    load: |load| (load.keys, load.stored) = (false, 1.0),
    ..CONTROL
};

const FORGETFUL_REDIS: Control = Control {
    about: "Redis has no append-only file",
    redis: &["--appendonly", "no"],
    ..CONTROL
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_says_what_happens() {
        let mut names = BTreeSet::new();
        for scenario in scenarios() {
            assert!(
                names.insert(scenario.name),
                "{} is there twice",
                scenario.name
            );
            assert!(!scenario.about.is_empty(), "{}", scenario.name);
            assert!(!scenario.faults.is_empty(), "{}", scenario.name);
            assert!(!scenario.hold.is_zero(), "{}", scenario.name);
            for control in scenario.controls {
                assert!(!control.about.is_empty(), "{}", scenario.name);
            }
        }
    }
}
