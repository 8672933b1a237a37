//! A load that outlives what it speaks to: members who come back, and a ledger of what they are owed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::board::{Board, Waiting};
use super::member::{Member, Phases};
use crate::body::{Bodies, HEAD_BYTES};
use crate::house::Seat;

pub(crate) use super::debts::Outcome;
pub(crate) use super::gateways::Gateways;
pub(crate) use super::settled::Settled;

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long to listen, when everything has come, for what comes again.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long members may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// How members behave.
#[derive(Clone, Debug)]
pub(crate) struct LoadSettings {
    /// Rooms.
    pub rooms: usize,
    /// Members of each room, all of whom subscribe.
    pub members: usize,
    /// How many of each room's members send.
    pub senders: usize,
    /// Messages a second, of all senders together, due whatever became of those before.
    pub rate: f64,
    /// The share of messages whose receipts wait for the store, from 0 to 1.
    pub stored: f64,
    /// Octets of a body, at least 40.
    pub body_bytes: usize,
    /// The seed of the turns, the bodies and the choice of gateways.
    pub seed: u64,
    /// Whether members come back with `after`.
    pub resume: bool,
    /// Whether messages have an idempotency key.
    pub keys: bool,
    /// Members who sometimes do not read.
    pub slow_reader: Option<SlowReader>,
    /// How often either side is to show that it lives; a gateway that is silent for two and a half
    /// times as long has gone.
    pub heart_beat: Duration,
    /// The first pause before coming back is this long at least, and none is longer than that.
    pub pauses: (Duration, Duration),
    /// A message without a receipt is sent again after this long, also while the connection stands.
    pub receipt_patience: Duration,
    /// How long a connection may take until CONNECTED; then another gateway is tried.
    pub opening: Duration,
    /// How long the start may take, until everything flows.
    pub start_within: Duration,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            rooms: 10,
            members: 4,
            senders: 2,
            rate: 50.0,
            stored: 0.5,
            body_bytes: 128,
            seed: 1,
            resume: true,
            keys: true,
            slow_reader: None,
            heart_beat: Duration::from_secs(1),
            pauses: (Duration::from_millis(100), Duration::from_secs(1)),
            receipt_patience: Duration::from_secs(15),
            opening: Duration::from_secs(5),
            start_within: Duration::from_secs(60),
        }
    }
}

/// Members who read for a while, and then nothing for a while. They do not send, and their sockets
/// hold back little.
#[derive(Clone, Debug)]
pub(crate) struct SlowReader {
    /// How many of each room's members: the last ones.
    pub members: usize,
    /// How long they read.
    pub reads: Duration,
    /// How long they do not.
    pub stops: Duration,
}

/// How long it took from when a fault began to end until everything flowed again: until the last member
/// had a delivery, the last sender a receipt, and the last room a receipt from the store that it had to
/// wait for. What came promptly when it was due was not waited for: no time at all says that all had
/// gone on before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Recovery {
    /// Of deliveries to every member.
    pub deliveries: Duration,
    /// Of receipts to every sender.
    pub receipts: Duration,
    /// Of receipts from the store in every room.
    pub stores: Duration,
}

/// The longest waits of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Longest {
    /// That any member who reads had nothing while something was due to it.
    pub interruption: Duration,
    /// From when a message was due until its receipt, of whichever kind.
    pub receipt: Duration,
}

impl Recovery {
    /// The longer of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            deliveries: self.deliveries.max(other.deliveries),
            receipts: self.receipts.max(other.receipts),
            stores: self.stores.max(other.stores),
        }
    }
}

/// What did not flow again in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("after {} s {waiting}{}", .after.as_secs(), .who.iter().map(|name| format!("; {name} waits")).collect::<String>())]
pub(crate) struct Stuck {
    after: Duration,
    waiting: Waiting,
    /// The first few.
    who: Vec<String>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subscriptions,
            deliveries,
            receipts,
            stores,
        } = self;
        write!(
            f,
            "{subscriptions} members are not subscribed, {deliveries} have got nothing new, \
             {receipts} senders have no receipt for anything new, and nothing new of {stores} rooms \
             is stored"
        )
    }
}

/// Why a load did not start.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(&'static str),
    /// Something did not flow from the beginning.
    #[error("the load does not start: {stuck}; ends of connections: {ends}")]
    Stuck {
        /// What does not flow.
        stuck: Stuck,
        /// Why connections ended, and how often.
        ends: String,
    },
}

/// A load that goes on until it is finished.
pub(crate) struct Load {
    board: Arc<Board>,
    settings: Arc<LoadSettings>,
    gateways: Gateways,
    phases: Phases,
    members: JoinSet<()>,
}

impl Load {
    /// Connects everybody and starts to send. Returns when all have subscribed, every sender has a
    /// receipt, and every member has seen a message.
    ///
    /// # Errors
    /// [`LoadError`] when that takes longer than the settings say.
    pub(crate) async fn start(
        gateways: Gateways,
        settings: LoadSettings,
    ) -> Result<Self, LoadError> {
        check(&settings)?;
        let mut rng = fastrand::Rng::with_seed(settings.seed);
        // Names are new in every load, so that an earlier one's messages are not in the rooms.
        let number = Uuid::new_v4().as_fields().0;
        let body_bytes = u32::try_from(settings.body_bytes).unwrap_or(u32::MAX);
        let bodies = Bodies::new(number, body_bytes, &mut rng);
        let LoadSettings {
            rooms,
            members,
            senders,
            ..
        } = settings;
        let prefix = format!("chaos-{number:08x}");
        let board = Arc::new(Board::new(&prefix, &settings, bodies));
        let settings = Arc::new(settings);
        let phases = Phases::default();

        let sending = rooms * senders;
        let every = Duration::from_secs_f64(sending as f64 / settings.rate);
        let mut turns = (0..sending).collect::<Vec<_>>();
        rng.shuffle(&mut turns);
        let slow = settings.slow_reader.as_ref().map_or(0, |slow| slow.members);
        let mut tasks = JoinSet::new();
        for user in 0..rooms * members {
            let (room, member) = (user / members, user % members);
            let turn = (member < senders).then(|| turns[room * senders + member]);
            let member = Member {
                seat: Seat {
                    user: u32::try_from(user).unwrap_or(u32::MAX),
                    room,
                    member,
                },
                board: Arc::clone(&board),
                settings: Arc::clone(&settings),
                gateways: gateways.clone(),
                rng: fastrand::Rng::with_seed(rng.u64(..)),
                phases: phases.clone(),
                turn: turn.map(|turn| every.mul_f64(turn as f64 / sending as f64)),
                every,
                is_slow: member >= members - slow,
            };
            tasks.spawn(member.run());
        }
        let load = Self {
            board,
            settings,
            gateways,
            phases,
            members: tasks,
        };
        let end = Instant::now() + load.settings.start_within;
        let stuck = |stuck| LoadError::Stuck {
            stuck,
            ends: described(&load.board),
        };
        load.until(end, |waiting| waiting.subscriptions == 0)
            .await
            .map_err(stuck)?;
        load.phases.sending.cancel();
        let rest = end.saturating_duration_since(Instant::now());
        load.watch();
        load.flowing(rest).await.map_err(stuck)?;
        load.longest();
        Ok(load)
    }

    /// From now on looks for what is due from now on, and for how long it takes. Called when a fault
    /// begins to end, so that what its end takes counts too.
    pub(crate) fn watch(&self) {
        let is_storing = self.settings.stored > 0.0;
        self.board
            .watch(self.board.now(), self.settings.senders, is_storing);
    }

    /// Waits until every sender has a receipt for something that was due after [`watch`](Self::watch),
    /// every member has got something that was, and something that was is stored of every room.
    ///
    /// # Errors
    /// [`Stuck`] when it takes longer than `deadline`.
    pub(crate) async fn flowing(&self, deadline: Duration) -> Result<Recovery, Stuck> {
        self.until(Instant::now() + deadline, |waiting| {
            *waiting == Waiting::default()
        })
        .await
    }

    /// The longest waits since this was last asked. Those that have not ended do not count yet.
    pub(crate) fn longest(&self) -> Longest {
        self.board.longest()
    }

    /// Stops sending, waits until everything has its receipt and has come to everybody, or `patience`
    /// is over, and lets everybody leave.
    pub(crate) async fn settle(mut self, patience: Duration) -> Settled {
        self.phases.settling.cancel();
        let end = Instant::now() + patience;
        let mut settled_since = None;
        while Instant::now() < end {
            let rooms = 0..self.board.rooms.len();
            let mut ledgers = rooms.map(|room| self.board.room(room));
            if !ledgers.all(|room| room.ledger.is_settled()) {
                settled_since = None;
            } else if *settled_since.get_or_insert_with(Instant::now) + AFTERMATH < Instant::now() {
                break;
            }
            sleep(LOOK * 5).await;
        }
        self.phases.leaving.cancel();
        let leaving = async { while self.members.join_next().await.is_some() {} };
        if timeout(LEAVING, leaving).await.is_err() {
            self.members.abort_all();
        }
        Settled::new(self.board, self.gateways)
    }

    async fn until(
        &self,
        end: Instant,
        done: impl Fn(&Waiting) -> bool,
    ) -> Result<Recovery, Stuck> {
        let began = Instant::now();
        loop {
            let (waiting, recovery) = self.board.waiting();
            if done(&waiting) {
                return Ok(recovery);
            }
            if Instant::now() >= end {
                return Err(Stuck {
                    after: began.elapsed(),
                    waiting,
                    who: self.board.who_waits(),
                });
            }
            sleep(LOOK).await;
        }
    }
}

fn check(settings: &LoadSettings) -> Result<(), LoadError> {
    let slow = settings.slow_reader.as_ref().map_or(0, |slow| slow.members);
    let wrong = if settings.rooms == 0 || settings.members == 0 {
        "a load needs a room and a member"
    } else if settings.senders == 0 || settings.senders + slow > settings.members {
        "a room needs one sender at least, and no more senders and slow readers than members"
    } else if settings.body_bytes < HEAD_BYTES as usize {
        "a body needs 40 octets"
    } else if !(settings.rate > 0.0 && settings.rate <= 1_000_000.0) {
        "the rate must be positive, and a million at most"
    } else if !(0.0..=1.0).contains(&settings.stored) {
        "the share of stored receipts lies between 0 and 1"
    } else {
        return Ok(());
    };
    Err(LoadError::Settings(wrong))
}

fn described(board: &Board) -> String {
    let ends = board.ends();
    let ends = ends
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"));
    match ends.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    }
}
