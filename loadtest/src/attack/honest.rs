//! The honest users: what they send and receive, and what it takes to connect, in peace and under
//! attack.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use shared::exit::Failure;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::body::{Bodies, HEAD_BYTES};
use crate::config::{GatewayUrl, TargetArgs};
use crate::connection::{ClientError, Connection};
use crate::crew::Crew;
use crate::field::{Ear, Field};
use crate::house::{House, Seating};
use crate::ledger::Faults;
use crate::pacer;
use crate::pass::Pass;
use crate::progress::Progress;
use crate::report::Latency;
use crate::run::Run;
use crate::tally::histogram;
use crate::target::Target;

/// Users in a room.
const ROOM: u32 = 10;

/// How long a user may take to connect.
const CONNECTING: Duration = Duration::from_secs(10);

/// How often somebody new connects, whatever became of those before.
const NEWCOMERS: Duration = Duration::from_millis(100);

/// From the last connection to the first message.
const HEAD_START: Duration = Duration::from_millis(200);

/// Longer than an attack takes: who sends is told when to end.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often it is looked whether everything has come.
const LOOKS: Duration = Duration::from_millis(50);

/// What honest users saw in a while.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seen {
    /// From when a message was due to its delivery, in microseconds.
    pub send_to_receive_us: Latency,
    /// From when a newcomer was due to CONNECTED, in microseconds.
    pub connect_us: Latency,
    /// From when a message was due to its being sent, in microseconds: what this program adds.
    pub generator_lag_us: Latency,
    /// Newcomers who were not let in, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Honest users at work.
pub(super) struct Honest {
    field: Arc<Field>,
    run: Arc<Run>,
    newcomers: JoinHandle<()>,
    door: Arc<Mutex<Door>>,
    receive: Histogram<u64>,
    lag: Histogram<u64>,
}

/// What newcomers met since it was last asked.
struct Door {
    times: Histogram<u64>,
    refused: BTreeMap<String, u64>,
}

impl Honest {
    /// Connects so many users and lets them begin.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when one of them cannot connect.
    pub(super) async fn start(
        gateway: &GatewayUrl,
        pass: &Pass,
        users: u32,
        rate: f64,
        seed: u64,
        prefix: &str,
    ) -> Result<Self, Failure> {
        let seats = Seating::Size(ROOM).seats(users);
        let names = seats.iter().map(|seat| format!("{prefix}-u{}", seat.user));
        let names = names.collect::<Vec<_>>();
        let house = House::new(seats, names, None, prefix);
        let mut args = TargetArgs::new(vec![gateway.clone()]);
        args.connect_timeout = CONNECTING;
        let target = Target::with_pass(&args, pass.clone());
        let crew = Crew::start(None)?;
        let lanes = crew.lanes().len();
        let field = Arc::new(Field::new(Arc::new(target), house, crew, true));
        field.open(&Progress::silent()).await?;
        let mut random = fastrand::Rng::with_seed(seed);
        let bodies = Bodies::new(random.u32(..), HEAD_BYTES + 88, &mut random);
        let run = Arc::new(Run::new(
            Arc::clone(&field.house),
            field.target.checks,
            lanes,
            Instant::now() + HEAD_START,
            (rate, LONGEST),
            bodies,
            &mut random,
        ));
        field.tell(Arc::clone(&run) as Arc<dyn Ear>);
        pacer::start(&field, &run, None)
            .map_err(|error| Failure::Other(format!("a thread: {error}")))?;
        let door = Arc::new(Mutex::new(Door::new()));
        let newcomers = newcomers(
            gateway.clone(),
            pass.clone(),
            prefix.to_owned(),
            Arc::clone(&door),
        );
        Ok(Self {
            field,
            run,
            newcomers: tokio::spawn(newcomers),
            door,
            receive: histogram(),
            lag: histogram(),
        })
    }

    /// What they saw since this was last asked, or since they began.
    pub(super) fn seen(&mut self) -> Seen {
        let now = self.run.total().latencies;
        let since = |now: &Histogram<u64>, before: &Histogram<u64>| {
            let mut since = now.clone();
            since
                .subtract(before)
                .expect("a histogram has all that it had before");
            Latency::of(&since)
        };
        let send_to_receive_us = since(&now.receive, &self.receive);
        let generator_lag_us = since(&now.lag, &self.lag);
        self.receive = now.receive;
        self.lag = now.lag;
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let Door { times, refused } = std::mem::replace(&mut *door, Door::new());
        Seen {
            send_to_receive_us,
            connect_us: Latency::of(&times),
            generator_lag_us,
            refused,
        }
    }

    /// Ends sending, waits for what is owed, and closes the ledger. Gives what is missing, and who was
    /// cut off, by reason.
    pub(super) async fn finish(self, patience: Duration) -> (Faults, BTreeMap<String, u64>) {
        self.newcomers.abort();
        self.run.hush.cancel();
        let settled = async {
            while !self.run.is_settled() {
                sleep(LOOKS).await;
            }
        };
        timeout(patience, settled).await.ok();
        let cut_off = self.field.cut_off();
        self.field.leave().await;
        (self.run.close().0, cut_off)
    }
}

impl Door {
    fn new() -> Self {
        Self {
            times: histogram(),
            refused: BTreeMap::new(),
        }
    }
}

/// Somebody new connects, and leaves, again and again.
async fn newcomers(gateway: GatewayUrl, pass: Pass, prefix: String, door: Arc<Mutex<Door>>) {
    let mut ticks = interval(NEWCOMERS);
    // Who is late is late; the next ones come when they are due.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut coming = JoinSet::new();
    loop {
        let due = ticks.tick().await;
        while coming.try_join_next().is_some() {}
        let (gateway, pass, door) = (gateway.clone(), pass.clone(), Arc::clone(&door));
        let user = format!("{prefix}-newcomer");
        coming.spawn(async move {
            let connecting = async {
                let mut connection = Connection::dial(&gateway, &pass, None).await?;
                connection.connect(&user, &pass, Duration::ZERO).await?;
                Ok::<_, ClientError>(connection)
            };
            let connected = timeout(CONNECTING, connecting).await;
            let took = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            let result = match connected {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            let connection = {
                let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(connection) => {
                        door.times.saturating_record(took.max(1));
                        Some(connection)
                    }
                    Err(reason) => {
                        *door.refused.entry(reason).or_default() += 1;
                        None
                    }
                }
            };
            if let Some(connection) = connection {
                connection.leave().await;
            }
        });
    }
}
