//! What one kind of attack has shown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::honest::Seen;
use super::kind::Kind;
use super::swarm::Tally;
use crate::ledger::Faults;

/// What one kind of attack has shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The kind's name.
    pub kind: String,
    /// Hostile connections that were wanted.
    pub wanted: u64,
    /// What became of them.
    pub hostile: Tally,
    /// The server's resident memory; nothing where its process is not known.
    pub memory: Option<Memory>,
    /// CPU time of the server for each second of time.
    pub cpu: Option<Cpu>,
    /// The server's descriptors.
    pub descriptors: Option<Descriptors>,
    /// What honest users saw before the attack; nothing where there were none.
    pub peace: Option<Seen>,
    /// What they saw while it lasted.
    pub attacked: Option<Seen>,
    /// What honest users sent and did not get.
    pub faults: Faults,
    /// Honest users who were cut off, by reason.
    pub cut_off: BTreeMap<String, u64>,
    /// That the server ended, or panicked, and how.
    pub died: Option<String>,
    /// Why it could not be finished, where it could not.
    pub broken: Option<String>,
    /// What limited the attack, instead of the server.
    pub limited: Option<String>,
}

/// Resident memory in octets.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Before the attack.
    pub before: u64,
    /// The most while it lasted.
    pub peak: u64,
    /// The median while all connections were held.
    pub plateau: u64,
    /// When all were released, and the server had given back what it does.
    pub after: u64,
    /// The most that it may have then.
    pub bound: u64,
}

/// Cores that the server had busy.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cpu {
    /// Before the attack.
    pub peace: f64,
    /// While it lasted.
    pub attacked: f64,
}

/// Descriptors.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Descriptors {
    /// Before the attack.
    pub before: u64,
    /// At the end of the attack.
    pub during: u64,
    /// After it.
    pub after: u64,
    /// The most that there may be then.
    pub bound: u64,
}

impl Row {
    /// An attack of which nothing is known yet.
    pub(crate) fn new(kind: Kind, wanted: u32) -> Self {
        Self {
            kind: kind.name(),
            wanted: wanted.into(),
            hostile: Tally::default(),
            memory: None,
            cpu: None,
            descriptors: None,
            peace: None,
            attacked: None,
            faults: Faults::default(),
            cut_off: BTreeMap::new(),
            died: None,
            broken: None,
            limited: None,
        }
    }

    /// How many times its undisturbed value the 99th percentile of send to receive was.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let [peace, attacked] = [&self.peace, &self.attacked].map(|seen| {
            let seen = seen.as_ref()?;
            (seen.send_to_receive_us.count > 0).then_some(seen.send_to_receive_us.p99 as f64)
        });
        Some(attacked? / peace?.max(1.0))
    }

    /// What a hostile connection costs at most, in octets of memory.
    pub(crate) fn each(&self) -> Option<u64> {
        let memory = self.memory?;
        let taken = memory.peak.saturating_sub(memory.before);
        taken.checked_div(self.hostile.most)
    }

    /// What is wrong, in a line; `None` where nothing is.
    pub(crate) fn wrong(&self) -> Option<String> {
        let mut wrong = Vec::new();
        wrong.extend(self.broken.iter().map(|why| format!("not finished: {why}")));
        wrong.extend(self.died.clone());
        let faults = serde_json::to_value(self.faults).unwrap_or_default();
        for (name, count) in faults.as_object().into_iter().flatten() {
            if count.as_u64() != Some(0) {
                let name = name.replace('_', " ");
                wrong.push(format!("honest messages: {name} {count}"));
            }
        }
        for (reason, count) in &self.cut_off {
            wrong.push(format!("honest users cut off: {count} ({reason})"));
        }
        for seen in [&self.peace, &self.attacked].into_iter().flatten() {
            for (reason, count) in &seen.refused {
                wrong.push(format!("honest newcomers not let in: {count} ({reason})"));
            }
        }
        if let Some(memory) = self.memory.filter(|_| self.died.is_none())
            && memory.after > memory.bound
        {
            let mib = |octets: u64| octets >> 20;
            wrong.push(format!(
                "memory is kept: {} MiB before, {} MiB after, where {} MiB may be",
                mib(memory.before),
                mib(memory.after),
                mib(memory.bound)
            ));
        }
        if let Some(descriptors) = self.descriptors.filter(|_| self.died.is_none())
            && descriptors.after > descriptors.bound
        {
            wrong.push(format!(
                "descriptors are kept: {} before, {} after",
                descriptors.before, descriptors.after
            ));
        }
        (!wrong.is_empty()).then(|| format!("{}: {}", self.kind, wrong.join("; ")))
    }
}
