//! Messages that flow while something is done to the servers, and the account of them: each that
//! was accepted is heard, or a gap follows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use harness::until;
use shared::broker::{Broker, Event, Events, Fanout, Subscriber};
use shared::message::{GatewayId, MessageId, RoomName};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{draft, room};

/// So many that every shard has some.
const ROOMS: usize = 24;

/// One sender in each of some rooms, and one gateway that has subscribed to them all.
pub(super) struct Flow {
    broker: Arc<dyn Broker>,
    account: Arc<Mutex<Account>>,
    subscriber: Arc<dyn Subscriber>,
    senders: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _hearing: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Account {
    /// Accepted, not heard, and no gap since the sending began.
    owed: HashMap<MessageId, Instant>,
    heard: HashSet<MessageId>,
    newest: HashMap<RoomName, MessageId>,
    last_gap: Option<Instant>,
    gaps: usize,
}

impl Flow {
    /// Returns when every room is subscribed and something was heard in each.
    pub(super) async fn start(broker: &Arc<dyn Broker>) -> Self {
        let Fanout {
            subscriber, events, ..
        } = broker.open_fanout(GatewayId::random()).await.unwrap();
        let account = Arc::new(Mutex::new(Account::default()));
        let hearing = tokio::spawn(hear(events, Arc::clone(&account)));
        let mut flow = Self {
            broker: Arc::clone(broker),
            account,
            subscriber,
            senders: Vec::new(),
            stop: CancellationToken::new(),
            _hearing: AbortOnDropHandle::new(hearing),
        };
        let names: Vec<_> = (0..ROOMS).map(|n| format!("room{n}")).collect();
        flow.join(&names).await;
        flow.goes_on().await;
        flow
    }

    /// Subscribes to more rooms, all at once, and sends in each as soon as that is confirmed.
    pub(super) async fn join(&mut self, names: &[String]) {
        let confirmed = names
            .iter()
            .map(|name| self.subscriber.subscribe(room(name)));
        for (name, confirmed) in names.iter().zip(join_all(confirmed).await) {
            confirmed.unwrap();
            let (broker, account) = (Arc::clone(&self.broker), Arc::clone(&self.account));
            let sending = send(broker, name.clone(), account, self.stop.clone());
            self.senders.push(tokio::spawn(sending));
        }
    }

    /// How many gaps were reported so far.
    pub(super) fn gaps(&self) -> usize {
        self.account().gaps
    }

    /// Waits for a gap beyond so many.
    pub(super) async fn gap_after(&self, before: usize) {
        until("a gap is reported", async || self.gaps() > before).await;
    }

    /// Waits until a message sent from now on is heard in every room.
    pub(super) async fn goes_on(&self) {
        let before = self.account().newest.clone();
        until("every room is heard", async || {
            let newest = &self.account().newest;
            newest.len() == self.senders.len()
                && newest.iter().all(|(room, id)| before.get(room) < Some(id))
        })
        .await;
    }

    /// Ends the sending, and waits until nothing is owed.
    pub(super) async fn finish(self) {
        self.goes_on().await;
        self.stop.cancel();
        for sender in self.senders {
            sender.await.unwrap();
        }
        let account = || self.account.lock().unwrap_or_else(PoisonError::into_inner);
        until("every message is heard, or a gap follows", async || {
            account().owed.is_empty()
        })
        .await;
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(
    broker: Arc<dyn Broker>,
    name: String,
    account: Arc<Mutex<Account>>,
    stop: CancellationToken,
) {
    let mut pace = interval(Duration::from_millis(5));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !stop.is_cancelled() {
        pace.tick().await;
        number += 1;
        let began = Instant::now();
        // What is refused is owed to nobody.
        let Ok(accepted) = broker.publish(draft(&name, number)).await else {
            continue;
        };
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        let covered = account.last_gap.is_some_and(|gap| gap >= began);
        if !covered && !account.heard.contains(&accepted.id) {
            account.owed.insert(accepted.id, began);
        }
    }
}

async fn hear(mut events: Events, account: Arc<Mutex<Account>>) {
    while let Some(event) = events.next().await {
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        let account = &mut *account;
        match event {
            Event::Message(message) => {
                account.owed.remove(&message.id);
                account.heard.insert(message.id);
                let newest = account.newest.entry(message.room.clone());
                let newest = newest.or_insert(message.id);
                *newest = message.id.max(*newest);
            }
            Event::Gap => {
                let now = Instant::now();
                account.gaps += 1;
                account.last_gap = Some(now);
                account.owed.retain(|_, began| *began > now);
            }
            Event::Stored(_) => {}
        }
    }
}
