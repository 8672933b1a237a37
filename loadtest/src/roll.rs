//! What members of a storm have seen: who comes back with `after` gets once what was sent meanwhile, or
//! is told that it does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::stomp::Command;
use tokio::time::{sleep, timeout};

use crate::connection::ClientError;
use crate::field::{Ear, Field};
use crate::house::Seat;
use crate::ledger::Faults;
use crate::wire::{Glance, Link, Outlet, unescaped};

/// How long a message that everybody is to get may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The roll of a storm: a witness who stays sends to every room, before the cut and while nobody is
/// there, and each member is looked at.
#[derive(Debug)]
pub(crate) struct Roll {
    field: Arc<Field>,
    witness: Arc<Outlet>,
    name: String,
    /// What its bodies begin with.
    mark: String,
    /// Messages that were sent to each room so far.
    sent: AtomicU64,
    receipts: Arc<AtomicU64>,
    members: Vec<Mutex<Member>>,
}

#[derive(Debug, Default)]
struct Member {
    newest: Option<String>,
    /// The messages that came, and how many of them were once more, out of order, or nobody's.
    seen: u64,
    /// The number of the newest.
    last: u64,
    doubled: u64,
    reordered: u64,
    foreign: u64,
    told: u64,
}

impl Roll {
    /// Connects the witness.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where it cannot connect.
    pub(crate) async fn open(field: &Arc<Field>, number: u32) -> Result<Arc<Self>, Failure> {
        let name = field.house.names.first().cloned().unwrap_or_default();
        let lane = &field.crew().lanes()[0];
        let (target, own) = (Arc::clone(&field.target), name.clone());
        let opening = lane.handle.spawn(async move {
            let opening = Link::open(&target, 0, &own);
            timeout(target.connect_timeout, opening).await
        });
        let mut link = match opening.await {
            Ok(Ok(Ok(link))) => link,
            Ok(Ok(Err(error))) => return Err(Failure::Unavailable(error.to_string())),
            _ => return Err(Failure::Unavailable("no answer in time".into())),
        };
        let witness = Arc::clone(link.outlet());
        lane.heart.add(&witness, link.beats);
        let receipts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&receipts);
        lane.handle.spawn(async move {
            let ended = link.listen(|glance, _| {
                if glance.command == Command::Receipt {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None::<()>)
            });
            // That it ended shows in receipts that do not come.
            ended.await.map(drop).unwrap_or_default();
        });
        Ok(Arc::new(Self {
            members: field.house.seats.iter().map(|_| Mutex::default()).collect(),
            field: Arc::clone(field),
            witness,
            name,
            mark: format!("{number:08x} storm "),
            sent: AtomicU64::new(0),
            receipts,
        }))
    }

    /// Sends a message to every room and waits for the receipts, and for every member where they are
    /// `there`.
    ///
    /// # Errors
    /// [`Failure::Other`] where they do not come.
    pub(crate) async fn send(&self, there: bool) -> Result<(), Failure> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let house = &self.field.house;
        let mut scratch = Vec::new();
        for room in 0..house.sizes.len() {
            let mut frame = self
                .field
                .target
                .send_head(&self.name, &house.room_name(room), None);
            let text = format!("receipt:{number}\n\n{}{number}\0", self.mark);
            frame.extend_from_slice(text.as_bytes());
            let sent = self.witness.send(&frame, &mut scratch);
            sent.map_err(|error| Failure::Other(format!("the witness: {error}")))?;
        }
        let owed = number * house.sizes.len() as u64;
        let arrived = async {
            while self.receipts.load(Ordering::Relaxed) < owed || there && self.missing().0 > 0 {
                sleep(LOOK).await;
            }
        };
        let late = |_| Failure::Other("a message did not reach a room that is at peace".into());
        timeout(PATIENCE, arrived).await.map_err(late)
    }

    /// The newest message that a member has seen.
    pub(crate) fn newest(&self, seat: Seat) -> Option<String> {
        self.member(seat).newest.clone()
    }

    /// A member is back, and has been told whether it gets everything.
    pub(crate) fn is_back(&self, seat: Seat, recovered: Option<bool>) {
        if recovered == Some(false) {
            let mut member = self.member(seat);
            // What it will not get any more is not owed.
            let sent = self.sent.load(Ordering::Relaxed);
            member.told += sent.saturating_sub(member.seen + member.told);
        }
    }

    /// Waits until every member has what it is owed, or for so long: what is missing, and what members
    /// were told that they do not get.
    pub(crate) async fn settle(&self, patience: Duration) -> (u64, u64) {
        let settled = async {
            while self.missing().0 > 0 {
                sleep(LOOK).await;
            }
        };
        // What is missing is counted below, in time or not.
        let _ = timeout(patience, settled).await;
        self.missing()
    }

    /// What else went wrong.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for seat in &self.field.house.seats {
            let member = self.member(*seat);
            faults.duplicated += member.doubled;
            faults.reordered += member.reordered;
            faults.foreign += member.foreign;
        }
        faults
    }

    fn missing(&self) -> (u64, u64) {
        let sent = self.sent.load(Ordering::Relaxed);
        let (mut missing, mut told) = (0, 0);
        for seat in &self.field.house.seats {
            let member = self.member(*seat);
            missing += sent.saturating_sub(member.seen + member.told);
            told += member.told;
        }
        (missing, told)
    }

    fn member(&self, seat: Seat) -> MutexGuard<'_, Member> {
        self.members[seat.user as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear for Roll {
    fn hear(&self, seat: Seat, glance: &Glance<'_>, _: Instant) -> Result<(), ClientError> {
        match glance.command {
            Command::Error => return Err(glance.refusal()),
            Command::Message => {}
            _ => return Ok(()),
        }
        let text = str::from_utf8(glance.body).ok();
        let number = text.and_then(|text| text.strip_prefix(&self.mark)?.parse::<u64>().ok());
        let mut member = self.member(seat);
        let Some(number) = number else {
            member.foreign += 1;
            return Ok(());
        };
        member.newest = glance.id.map(|id| unescaped(id).into_owned());
        match number {
            again if again == member.last => member.doubled += 1,
            earlier if earlier < member.last => member.reordered += 1,
            _ => {
                member.seen += 1;
                member.last = number;
            }
        }
        Ok(())
    }
}
