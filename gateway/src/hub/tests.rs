use std::future::{poll_fn, ready};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, poll};
use shared::broker::{self, Broker, Settled};
use shared::config::{BrokerSettings, BrokerUrl, Delivery};
use shared::message::{Draft, GatewayId, Series, UsedKey, UserName};
use shared::metrics::Metrics;
use shared::stomp::Version;
use shared::store::{DeadLetter, Inserted, Rights, Store, StoreError};
use tokio::time::sleep;

use super::*;
use crate::close::CloseReason;
use crate::config::ReceiptAfter;
use crate::outbox::{Outbox, outbox};
use crate::publish::Publisher;
use crate::receipts::Receipts;
use crate::session::output::Slot;

const SECOND: Duration = Duration::from_secs(1);

/// A store in memory that takes its time to read: a paused clock does not wait for another thread.
struct Slow {
    messages: Mutex<Vec<Arc<Message>>>,
    takes: Duration,
    fails: AtomicBool,
    /// Readings ever, now, and at most at one time.
    asked: [AtomicUsize; 3],
}

impl Store for Slow {
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>> {
        self.messages.lock().unwrap().extend(batch.iter().cloned());
        ready(Ok(Inserted::default())).boxed()
    }

    fn bury<'a>(&'a self, _: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        async move {
            let [ever, now, most] = &self.asked;
            ever.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(self.takes).await;
            now.fetch_sub(1, Ordering::Relaxed);
            if self.fails.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("it fails".into()));
            }
            let messages = self.messages.lock().unwrap();
            let in_span = messages
                .iter()
                .filter(|message| message.room == *room && span.contains(message.id));
            let mut found: Vec<_> = in_span.map(|message| (**message).clone()).collect();
            span.cut(&mut found, limit);
            Ok(found)
        }
        .boxed()
    }

    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        ready(Ok(ids.to_vec())).boxed()
    }

    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>> {
        ready(Ok(None)).boxed()
    }

    fn keys_after(&self, _: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn rights<'a>(
        &'a self,
        _: &'a RoomName,
        _: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>> {
        ready(Ok(Rights::default())).boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }
}

/// A hub on the in-process broker.
struct World {
    hub: Arc<Hub>,
    broker: Arc<dyn Broker>,
    store: Arc<Slow>,
    metrics: Metrics,
}

impl World {
    /// Its store takes this long to read.
    async fn new(takes: Duration) -> Self {
        let settings = BrokerSettings {
            url: BrokerUrl::Memory,
            delivery: Delivery::AtLeastOnce,
            shards: 1,
            journal_max: 100,
            recent_max: 1,
            recent_ttl: 1000 * SECOND,
            publish_timeout: SECOND,
            connect_timeout: SECOND,
            takeover_after: SECOND,
            replicas: None,
            without: Without::NOTHING,
        };
        let metrics = Metrics::new();
        let broker = broker::open(&settings, &metrics, broker::Earlier::default())
            .await
            .unwrap();
        let store = Arc::new(Slow {
            messages: Mutex::default(),
            takes,
            fails: AtomicBool::new(false),
            asked: Default::default(),
        });
        let fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
        let past = Arc::new(Past::new(
            Arc::clone(&broker),
            Arc::clone(&store) as Arc<dyn Store>,
            &Without::NOTHING,
        ));
        let gateway = Arc::clone(&metrics.gateway);
        let hub = Hub::new(
            fanout.subscriber,
            past,
            true,
            broker.window(),
            1 << 20,
            Without::NOTHING,
            gateway,
        );
        Self {
            hub: Arc::new(hub),
            broker,
            store,
            metrics,
        }
    }

    fn past(&self, without: &Without) -> Arc<Past> {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        Arc::new(Past::new(Arc::clone(&self.broker), store, without))
    }

    fn fail(&self, fails: bool) {
        self.store.fails.store(fails, Ordering::Relaxed);
    }

    async fn publish(&self, room: RoomName) {
        self.publish_sized(room, 2).await;
    }

    async fn publish_sized(&self, room: RoomName, octets: usize) {
        self.broker.publish(draft(room, octets)).await.unwrap();
    }

    /// Takes everything out of the journal and stores it.
    async fn settle(&self) {
        let mut feed = self.broker.open_feed("test").await.unwrap();
        let entries = feed.next(100, Duration::ZERO).await.unwrap();
        let settled = entries.iter().map(|entry| Settled {
            id: entry.id,
            notify: None,
        });
        feed.settler().settle(settled.collect()).await.unwrap();
        let batch: Vec<_> = entries
            .into_iter()
            .map(|entry| entry.content.unwrap())
            .collect();
        self.store.insert(&batch).await.unwrap();
    }

    async fn enter(&self, room: RoomName, outbox: &Outbox) -> Membership {
        let address = Address {
            version: Version::V1_2,
            subscription: Some("s".into()),
            destination: "/topic/rooms/r".into(),
            acknowledged: false,
            text_only: false,
        };
        let member = Member {
            outbox: outbox.clone(),
            slot: Slot(0),
        };
        let membership = self.hub.join(room, address, member);
        membership.confirmed().await.unwrap();
        membership
    }
}

fn draft(room: RoomName, octets: usize) -> Draft {
    Draft {
        room,
        sender: UserName::parse("kim").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: Bytes::from(vec![b'x'; octets]),
        idempotency_key: None,
        newer_than: None,
        notify: None,
        series: Series::default(),
        ephemeral: false,
    }
}

fn room(number: usize) -> RoomName {
    RoomName::parse(&format!("r{number}")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn members_are_told_of_a_gap_that_cannot_be_read_and_who_comes_after_begins_anew() {
    let world = World::new(SECOND).await;
    let hub = &world.hub;
    world.publish(room(0)).await;
    world.settle().await;
    let (first, mut deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let membership = world.enter(room(0), &first).await;
    for _ in 0..3 {
        world.publish(room(0)).await;
    }
    world.settle().await;
    let missed_from = hub.newest(&room(0));
    assert!(missed_from.is_some());
    world.fail(true);
    hub.repair_all();
    let reason = poll_fn(|cx| deliveries.poll_cut(cx)).await;
    assert_eq!(reason, CloseReason::GapUnrepaired);
    assert_eq!(world.metrics.gateway.gaps_unrepaired.get(), 1);

    world.fail(false);
    let (second, _deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let newcomer = world.enter(room(0), &second).await;
    drop(membership);
    assert_eq!(world.metrics.gateway.rooms.get(), 1);
    assert!(hub.newest(&room(0)) > missed_from);
    drop(newcomer);
}

/// More than have their turn at a time, by far.
const ROOMS: usize = 40 * REPAIRS;

#[tokio::test(start_paused = true)]
async fn no_room_is_given_up_because_others_are_repaired_before_it() {
    // One after the other they take 80 s.
    let world = World::new(2 * SECOND).await;
    let (outbox, mut deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let members = join_all((0..ROOMS).map(|number| world.enter(room(number), &outbox))).await;
    for number in 0..ROOMS {
        world.publish(room(number)).await;
        world.settle().await;
    }
    world.hub.repair_all();
    let (repaired, unrepaired) = (
        &world.metrics.gateway.gaps_repaired,
        &world.metrics.gateway.gaps_unrepaired,
    );
    while repaired.get() + unrepaired.get() < ROOMS as u64 {
        sleep(SECOND).await;
    }
    assert_eq!(unrepaired.get(), 0);
    for _ in 0..ROOMS {
        assert!(deliveries.try_next().is_some());
    }
    drop(members);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_waits_for_its_turn_is_given_up_when_none_is_repaired() {
    let world = World::new(2 * SECOND).await;
    let (outbox, _deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let members = join_all((0..ROOMS).map(|number| world.enter(room(number), &outbox))).await;
    world.fail(true);
    world.hub.repair_all();
    sleep(70 * SECOND).await;
    let unrepaired = world.metrics.gateway.gaps_unrepaired.get();
    assert_eq!(unrepaired, ROOMS as u64);
    drop(members);
}

#[tokio::test(start_paused = true)]
async fn members_that_read_on_are_not_cut_off_by_a_gap_that_is_longer_than_their_outbox() {
    let world = World::new(Duration::ZERO).await;
    let (outbox, mut deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let member = world.enter(room(0), &outbox).await;
    for octets in [20_000, 20_000, 20_000, 500, 500, 500] {
        for _ in 0..90 {
            world.publish_sized(room(0), octets).await;
        }
        world.settle().await;
    }
    world.hub.repair_all();
    for _ in 0..6 * 90 {
        // 4 MB/s of the large ones.
        sleep(Duration::from_millis(5)).await;
        poll_fn(|cx| match deliveries.poll_cut(cx) {
            Poll::Ready(reason) => panic!("{reason:?}"),
            Poll::Pending => deliveries.poll_next(cx),
        })
        .await;
    }
    assert_eq!(world.metrics.gateway.gaps_repaired.get(), 1);
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_holds_the_others_up_for_a_while_only() {
    const SENT: usize = 4 * 90;
    let world = World::new(Duration::ZERO).await;
    let gateway = &world.metrics.gateway;
    let (fast, mut read_at_once) = outbox(1 << 20, Arc::clone(gateway));
    let (slow, mut read_slowly) = outbox(1 << 20, Arc::clone(gateway));
    let members = [
        world.enter(room(0), &fast).await,
        world.enter(room(0), &slow).await,
    ];
    for _ in 0..SENT / 90 {
        for _ in 0..90 {
            world.publish_sized(room(0), 20_000).await;
        }
        world.settle().await;
    }
    world.hub.repair_all();
    let began = Instant::now();
    tokio::spawn(async move {
        // As fast as a repair is that waits for it each time, so that it is never cut off.
        loop {
            read_slowly.next().await;
            sleep(Duration::from_millis(60)).await;
        }
    });
    for _ in 0..SENT {
        read_at_once.next().await;
    }
    assert!(began.elapsed() < 11 * SECOND, "{:?}", began.elapsed());
    assert!(began.elapsed() > SECOND, "it is waited for");
    drop(members);
}

/// What comes after a message of each of these rooms is read at once.
async fn read(past: &Arc<Past>, rooms: impl Iterator<Item = usize>) {
    let readings = rooms.map(|number| past.since(room(number), MessageId::MIN, 50));
    for reading in join_all(readings).await {
        assert!(reading.unwrap().is_whole());
    }
}

#[tokio::test(start_paused = true)]
async fn readings_are_bounded_in_number_and_all_have_their_turn() {
    for (bounded, without) in [
        (true, Without::NOTHING),
        (false, Without::from(&[Protection::BoundedReadings][..])),
    ] {
        let world = World::new(SECOND).await;
        read(&world.past(&without), 0..500).await;
        let [ever, _, most] = &world.store.asked;
        assert_eq!(ever.load(Ordering::Relaxed), 500);
        let most = most.load(Ordering::Relaxed);
        assert_eq!(most, if bounded { 32 } else { 500 });
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_the_same_message_shares_a_reading_that_has_not_begun() {
    let world = World::new(SECOND).await;
    let past = world.past(&Without::NOTHING);
    // The first 32 begin at once, and nobody can share what has begun.
    let same = std::iter::repeat_n(100, 1000);
    read(&past, (0..32).chain(same.clone())).await;
    let ever = || world.store.asked[0].load(Ordering::Relaxed);
    assert_eq!(ever(), 33);
    // Who leaves takes nothing from those who stay.
    let mut left = Box::pin(past.since(room(7), MessageId::MIN, 50));
    assert!(poll!(&mut left).is_pending());
    let stays = past.since(room(7), MessageId::MIN, 50);
    let mut stays = Box::pin(stays);
    assert!(poll!(&mut stays).is_pending());
    drop(left);
    assert!(stays.await.unwrap().is_whole());
    assert_eq!(
        ever(),
        35,
        "the second may have joined its room since the first began"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_message_whose_sender_has_gone_holds_up_nothing() {
    let world = World::new(SECOND).await;
    world.publish(room(0)).await;
    world.settle().await;
    let (outbox, mut deliveries) = outbox(1 << 20, Arc::clone(&world.metrics.gateway));
    let member = world.enter(room(0), &outbox).await;
    let receipts = Receipts::new(SECOND, Arc::clone(&world.metrics.gateway));
    let publisher = Publisher {
        broker: Arc::clone(&world.broker),
        gateway: GatewayId::random(),
        receipts: Arc::new(receipts),
        hub: Arc::clone(&world.hub),
        metrics: Arc::clone(&world.metrics.gateway),
    };
    let whisper = Draft {
        ephemeral: true,
        ..draft(room(0), 2)
    };
    let whispering = publisher.accept(whisper, ReceiptAfter::Accepted);
    let accepted = world.broker.publish(draft(room(0), 2)).await.unwrap();
    let message = draft(room(0), 2).accepted(accepted.id, accepted.prev);
    world.hub.answered(&message);
    assert!(deliveries.try_next().is_none(), "it would overtake it");
    // As with its connection.
    drop(whispering);
    world.hub.answered(&message);
    let shown = deliveries.try_next().map(|next| next.encoded.id);
    assert_eq!(shown, Some(message.id));
    drop(member);
}
