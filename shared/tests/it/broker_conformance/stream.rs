//! A stream of messages through two brokers while something happens to the servers, and the
//! account of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::until::DEADLINE;
use shared::broker::{Broker, Earlier, Feed, open};
use shared::config::BrokerSettings;
use shared::message::{Draft, MessageId, Series, UserName};
use shared::metrics::Metrics;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{keyed, room, settled};

/// How many messages of one sender are under way at a time.
const UNDER_WAY: usize = 20;

/// How many each sends when it is over.
const AFTER: usize = 100;

/// What was said of messages, by room and sender: the body's number, and the ids.
type Account = BTreeMap<(String, String), Vec<(usize, MessageId)>>;

/// What came of a stream.
pub(super) struct Outcome {
    /// What senders were answered, in the order of their calls.
    accepted: Account,
    /// What a feed handed out, in its order.
    fed: Account,
}

pub(super) async fn broker(settings: &BrokerSettings) -> Arc<dyn Broker> {
    let opened = open(settings, &Metrics::new(), Earlier::default()).await;
    opened.expect("it opens")
}

/// Has two brokers publish in each of these rooms, while a third feeds and settles, and something
/// happens.
pub(super) async fn during(
    settings: &BrokerSettings,
    rooms: &[&str],
    fault: impl AsyncFnOnce(),
) -> Outcome {
    let over = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(Notify::new());
    let mut senders = Vec::new();
    for name in ["ann", "bob"] {
        let broker = broker(settings).await;
        for room in rooms {
            let (broker, over, begun) =
                (Arc::clone(&broker), Arc::clone(&over), Arc::clone(&begun));
            let sender = send(broker, room.to_string(), name.to_string(), over, begun);
            senders.push(tokio::spawn(sender));
        }
    }
    let feeding = Arc::new(AtomicBool::new(true));
    let feeder = feed(settings, Arc::clone(&feeding)).await;
    for _ in &senders {
        begun.notified().await;
    }
    fault().await;
    over.store(true, Ordering::Relaxed);
    let sent = timeout(2 * DEADLINE, join_all(senders)).await;
    let accepted: Account = sent
        .expect("all are answered in time")
        .into_iter()
        .map(|sender| sender.expect("a sender has no reason to give up"))
        .collect();
    // What is accepted is in the journal, or has been read.
    let checking = broker(settings).await;
    harness::until("the journal to be empty", async || {
        checking.backlog().await.is_ok_and(|backlog| backlog == 0)
    })
    .await;
    feeding.store(false, Ordering::Relaxed);
    let fed = timeout(DEADLINE, feeder).await.expect("a feed ends");
    Outcome {
        accepted,
        fed: fed.expect("a feeder has no reason to give up"),
    }
}

impl Outcome {
    /// Each message was fed under the one id that its sender was told, and no other; and in the
    /// order of the sender.
    pub(super) fn is_paid(&self) {
        for (whose, accepted) in &self.accepted {
            assert!(
                accepted.is_sorted_by(|(_, one), (_, next)| one < next),
                "{whose:?}: the order of the ids is that of the calls"
            );
            let fed = self.fed.get(whose).expect("its messages were fed");
            // What was handed out and not settled comes again.
            let fed: BTreeSet<_> = fed.iter().map(|(n, id)| (*id, *n)).collect();
            let accepted: BTreeSet<_> = accepted.iter().map(|(n, id)| (*id, *n)).collect();
            let (lost, more) = (&accepted - &fed, &fed - &accepted);
            assert!(
                lost.is_empty() && more.is_empty(),
                "{whose:?}, of {}: accepted and not fed: {lost:?}, fed and not accepted: {more:?}",
                accepted.len(),
            );
        }
    }

    /// How many messages were fed twice under two ids.
    pub(super) fn doubled(&self) -> usize {
        let mut ids: BTreeMap<_, BTreeSet<MessageId>> = BTreeMap::new();
        for (whose, fed) in &self.fed {
            for (n, id) in fed {
                ids.entry((whose, n)).or_default().insert(*id);
            }
        }
        ids.values().filter(|ids| ids.len() > 1).count()
    }
}

/// Publishes with many under way until it is over, and some more. What is not accepted is sent
/// again with the same key, in order, as a client does that comes back.
async fn send(
    broker: Arc<dyn Broker>,
    place: String,
    name: String,
    over: Arc<AtomicBool>,
    begun: Arc<Notify>,
) -> ((String, String), Vec<(usize, MessageId)>) {
    let (mut accepted, mut under_way) = (Vec::new(), VecDeque::new());
    let mut series = Series::default();
    let mut next = 0;
    let mut last = None;
    loop {
        if over.load(Ordering::Relaxed) && last.is_none() {
            last = Some(next + AFTER);
        }
        while under_way.len() < UNDER_WAY && last.is_none_or(|last| next < last) {
            under_way.push_back(broker.publish(Draft {
                sender: UserName::parse(&name).unwrap(),
                series: series.clone(),
                ..keyed(&place, &next.to_string())
            }));
            next += 1;
        }
        let Some(first) = under_way.pop_front() else {
            return ((place, name), accepted);
        };
        match first.await {
            Ok(answer) => {
                accepted.push((accepted.len(), answer.id));
                begun.notify_one();
            }
            Err(_) => {
                under_way.clear();
                series = Series::default();
                next = accepted.len();
            }
        }
        // A stream, not a flood.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn feed(settings: &BrokerSettings, goes_on: Arc<AtomicBool>) -> JoinHandle<Account> {
    let broker = broker(settings).await;
    let mut feed: Box<dyn Feed> = broker.open_feed("one").await.unwrap();
    tokio::spawn(async move {
        let mut fed = Account::new();
        while goes_on.load(Ordering::Relaxed) {
            // An error is an outage that the test has made: the caller calls again.
            let entries = feed.next(500, Duration::from_millis(5)).await;
            let entries = entries.unwrap_or_default();
            for entry in &entries {
                let message = entry.content.as_ref().unwrap();
                let n = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
                let whose = (message.room.to_string(), message.sender.to_string());
                fed.entry(whose).or_default().push((n, entry.id));
            }
            while !entries.is_empty() && feed.settler().settle(settled(&entries)).await.is_err() {}
        }
        drop(broker);
        fed
    })
}

/// Rooms that lie in as many different shards as there are.
pub(super) fn rooms_of_all(shards: u16) -> Vec<String> {
    let mut rooms = BTreeMap::new();
    for n in 0.. {
        let name = format!("room{n}");
        let shard = shared::broker::shard::shard_of(&room(&name), shards);
        rooms.entry(shard).or_insert(name);
        if rooms.len() == usize::from(shards) {
            break;
        }
    }
    rooms.into_values().collect()
}
