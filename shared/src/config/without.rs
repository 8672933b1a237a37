//! Protections that can be switched off, one at a time, to show what each is worth.

/// What keeps a promise when something fails. `--without`, which `--help` does not show, switches
/// one off: the scenario that it is for must then find a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protection {
    /// A gateway fetches what it missed while its link was down, or its hand-over was full.
    GapRepair,
    /// A gateway compares `prev` with the newest message that it knows.
    PrevCheck,
    /// A live link is asked for a sign of life.
    LinkProbe,
    /// A publish that is sent again knows its own first attempt.
    PublishToken,
    /// An answer waits for the replicas.
    ReplicaWait,
    /// A gateway asks the store for receipts whose notice was lost.
    ReceiptCheck,
    /// An entry is acknowledged only after the store has it.
    StoreFirst,
    /// A persister takes over from a silent one, and looks through its own entries in doubt.
    Takeover,
    /// Clients that are told to leave are told at different times.
    PacedDrain,
    /// Readings of the past are bounded in number.
    BoundedReadings,
}

/// The protections that are switched off; none, outside of such a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without(Vec<Protection>);

impl Without {
    /// Nothing is switched off.
    pub const NOTHING: Self = Self(Vec::new());

    /// Whether this one is switched off.
    pub fn has(&self, protection: Protection) -> bool {
        self.0.contains(&protection)
    }
}

impl From<&[Protection]> for Without {
    fn from(protections: &[Protection]) -> Self {
        Self(protections.to_vec())
    }
}
