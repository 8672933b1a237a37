//! Everybody who is connected: each with a listener on one of the generator's threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use hdrhistogram::Histogram;
use shared::exit::Failure;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::connection::ClientError;
use crate::crew::Crew;
use crate::house::{House, Seat};
use crate::probe::Probe;
use crate::progress::Progress;
use crate::tally::{histogram, record};
use crate::target::Target;
use crate::wire::Link;
use crate::wire::{Glance, Outlet};

/// Connections that are being made at one time, where no rate is asked for.
const AT_ONCE: usize = 64;

/// The same where a rate is: those that are slow shall not hold up those that follow.
const AT_ONCE_AT_RATE: usize = 4096;

/// How long users may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Who is told what comes.
pub(crate) trait Ear: Send + Sync + fmt::Debug {
    /// A frame has come to a user, read at `now`.
    ///
    /// # Errors
    /// [`ClientError`] where the user can go on no longer.
    fn hear(&self, seat: Seat, glance: &Glance<'_>, now: Instant) -> Result<(), ClientError>;
}

/// Everybody who is connected.
#[derive(Debug)]
pub(crate) struct Field {
    /// Who they are.
    pub house: Arc<House>,
    /// What they are connected to.
    pub target: Arc<Target>,
    crew: Crew,
    stage: Arc<Stage>,
    subscribes: bool,
    places: Vec<Mutex<Option<Place>>>,
}

#[derive(Debug)]
struct Place {
    outlet: Arc<Outlet>,
    listener: AbortHandle,
}

/// What listeners share.
#[derive(Debug)]
struct Stage {
    ear: RwLock<Option<Arc<dyn Ear>>>,
    /// Connections that are open.
    open: AtomicUsize,
    /// Whether ends are expected.
    leaving: AtomicBool,
    /// Users who were cut off, by reason.
    cut_off: Mutex<BTreeMap<String, u64>>,
}

impl Field {
    /// Nobody yet. Users subscribe to their rooms where `subscribes`.
    pub(crate) fn new(target: Arc<Target>, house: House, crew: Crew, subscribes: bool) -> Self {
        let stage = Stage {
            ear: RwLock::new(None),
            open: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            cut_off: Mutex::default(),
        };
        Self {
            places: house.seats.iter().map(|_| Mutex::new(None)).collect(),
            house: Arc::new(house),
            target,
            crew,
            stage: Arc::new(stage),
            subscribes,
        }
    }

    /// Connects everybody, and returns once all are subscribed: from when each was due to that.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] with the reason of the first who could not.
    pub(crate) async fn open(&self, progress: &Progress) -> Result<Histogram<u64>, Failure> {
        let mut times = histogram();
        let start = Instant::now();
        let rate = self.target.connect_rate;
        let opening = self.house.seats.iter().map(|&seat| async move {
            let due = match rate {
                Some(rate) => {
                    let due = start + Duration::from_secs_f64(f64::from(seat.user) / rate);
                    sleep_until(due.into()).await;
                    due
                }
                None => Instant::now(),
            };
            let entered = self.enter(seat, None).await;
            entered.map(|_| due.elapsed()).map_err(|error| {
                let gateway = &self.target.gateways[self.gateway(seat)];
                Failure::Unavailable(format!("{}: {error}", gateway.as_str()))
            })
        });
        let at_once = rate.map_or(AT_ONCE, |_| AT_ONCE_AT_RATE);
        let mut opening = stream::iter(opening).buffer_unordered(at_once);
        while let Some(took) = opening.next().await {
            record(&mut times, took?);
            progress.connecting(times.len(), self.house.seats.len());
        }
        if self.subscribes && !self.target.has_receipts() {
            Probe::confirm(self).await?;
        }
        Ok(times)
    }

    /// Connects one user, after a message where one is named. Gives what the receipt says of `recovered`.
    ///
    /// # Errors
    /// [`ClientError`] of whichever step failed, also when it took too long.
    pub(crate) async fn enter(
        &self,
        seat: Seat,
        after: Option<String>,
    ) -> Result<Option<bool>, ClientError> {
        let lane = &self.crew.lanes()[self.lane(seat)];
        let (tell, told) = oneshot::channel();
        let (target, house) = (Arc::clone(&self.target), Arc::clone(&self.house));
        let (stage, gateway) = (Arc::clone(&self.stage), self.gateway(seat));
        let (heart, subscribes) = (Arc::clone(&lane.heart), self.subscribes);
        let listener = lane.handle.spawn(async move {
            let opening = async {
                let name = house.name(seat);
                let mut link = Link::open(&target, gateway, name).await?;
                heart.add(link.outlet(), link.beats);
                let mut recovered = None;
                if subscribes {
                    let room = house.room_name(seat.room);
                    let other = |glance: &Glance<'_>, now| {
                        // What fails here fails again while listening.
                        let _ = stage.hear(seat, glance, now);
                    };
                    let subscribing = link.subscribe(&target, name, &room, after.as_deref(), other);
                    recovered = subscribing.await?;
                }
                Ok((link, recovered))
            };
            // Boxed, so that what only the opening needs is given back.
            let opened = timeout(target.connect_timeout, Box::pin(opening)).await;
            drop((target, house, heart));
            let mut link = match opened.unwrap_or(Err(ClientError::Late)) {
                Ok((link, recovered)) => {
                    stage.open.fetch_add(1, Ordering::Relaxed);
                    let told = tell.send(Ok((Arc::clone(link.outlet()), recovered)));
                    drop(told);
                    link
                }
                Err(error) => {
                    drop(tell.send(Err(error)));
                    return;
                }
            };
            let _open = Open(&stage.open);
            let ended = link
                .listen(|glance, now| stage.hear(seat, glance, now).map(|()| None::<()>))
                .await;
            if let Err(error) = ended
                && !stage.leaving.load(Ordering::Acquire)
            {
                stage.note(error.to_string());
            }
        });
        let (outlet, recovered) = told.await.unwrap_or(Err(ClientError::Closed(None)))?;
        let listener = listener.abort_handle();
        *self.place(seat) = Some(Place { outlet, listener });
        Ok(recovered)
    }

    /// From now on this is told what comes.
    pub(crate) fn tell(&self, ear: Arc<dyn Ear>) {
        *self
            .stage
            .ear
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(ear);
    }

    /// A user's way out; none while it is not connected.
    pub(crate) fn outlet(&self, seat: Seat) -> Option<Arc<Outlet>> {
        self.place(seat)
            .as_ref()
            .map(|place| Arc::clone(&place.outlet))
    }

    /// A user could not go on, for this reason.
    pub(crate) fn note(&self, reason: String) {
        self.stage.note(reason);
    }

    /// How many are connected.
    pub(crate) fn open_count(&self) -> usize {
        self.stage.open.load(Ordering::Relaxed)
    }

    /// The threads that listen.
    pub(crate) fn crew(&self) -> &Crew {
        &self.crew
    }

    /// Users who were cut off so far, by reason, and servers that showed no more that they live.
    pub(crate) fn cut_off(&self) -> BTreeMap<String, u64> {
        let mut all = self.stage.cut_off().clone();
        let silent: u64 = self.crew.lanes().iter().map(|it| it.heart.silent()).sum();
        if silent > 0 {
            let reason = "no heart-beat from the server for two and a half intervals";
            *all.entry(reason.to_owned()).or_default() += silent;
        }
        all
    }

    /// Cuts everybody off at once, as a network does: without a word, and with a reset.
    pub(crate) async fn cut(&self) {
        self.stage.leaving.store(true, Ordering::Release);
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Place { outlet, listener }) = place.take() {
                outlet.reset_when_dropped();
                listener.abort();
            }
        }
        self.emptied().await;
        self.stage.leaving.store(false, Ordering::Release);
    }

    /// Everybody says good-bye; who is not gone in time is cut off.
    pub(crate) async fn leave(&self) {
        self.stage.leaving.store(true, Ordering::Release);
        for seat in &self.house.seats {
            if let Some(outlet) = self.outlet(*seat) {
                outlet.leave();
            }
        }
        self.emptied().await;
        self.cut().await;
    }

    fn lane(&self, seat: Seat) -> usize {
        self.house.lane(seat.room, self.crew.lanes().len())
    }

    fn gateway(&self, seat: Seat) -> usize {
        (seat.room + seat.member) % self.target.gateways.len()
    }

    async fn emptied(&self) {
        let emptied = async {
            while self.open_count() > 0 {
                sleep(LOOK).await;
            }
        };
        // Who does not go in time is cut off afterwards.
        let _ = timeout(LEAVING, emptied).await;
    }

    fn place(&self, seat: Seat) -> MutexGuard<'_, Option<Place>> {
        self.places[seat.user as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    fn hear(&self, seat: Seat, glance: &Glance<'_>, now: Instant) -> Result<(), ClientError> {
        let ear = self.ear.read().unwrap_or_else(PoisonError::into_inner);
        match &*ear {
            Some(ear) => ear.hear(seat, glance, now),
            None if glance.command == shared::stomp::Command::Error => Err(glance.refusal()),
            None => Ok(()),
        }
    }

    fn note(&self, reason: String) {
        *self.cut_off().entry(reason).or_default() += 1;
    }

    fn cut_off(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.cut_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection as open until its listener ends, however that is.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
