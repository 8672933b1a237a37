//! What every store promises, held against each backend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::Mongo;
use shared::config::{Retention, StoreSettings, StoreUrl};
use shared::message::{
    Headers, IdempotencyKey, Message, MessageId, RoomName, Span, Stamp, UsedKey, UserName,
};
use shared::store::{self, DeadLetter, Inserted, Store};
use tempfile::TempDir;

/// A new, empty store that can be opened again and again.
pub(crate) struct Place {
    pub(crate) settings: StoreSettings,
    _folder: Option<TempDir>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("data").join("chat.db");
        Self {
            settings: settings(StoreUrl::Sqlite(file)),
            _folder: Some(folder),
        }
    }

    pub(crate) async fn mongo() -> Self {
        Self::on(Mongo::shared().await)
    }

    pub(crate) fn on(mongo: &Mongo) -> Self {
        let database = Mongo::database();
        let url = mongo.url(&database);
        Self::at(StoreUrl::Mongo { url, database })
    }

    pub(crate) fn at(url: StoreUrl) -> Self {
        Self {
            settings: settings(url),
            _folder: None,
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        store::open(&self.settings).await.unwrap()
    }
}

fn settings(url: StoreUrl) -> StoreSettings {
    StoreSettings {
        url,
        connect_timeout: Duration::from_secs(30),
        operation_timeout: Duration::from_secs(30),
        retention: Retention::Unchanged,
    }
}

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

pub(crate) fn id(seq: u64) -> MessageId {
    // Some ids share a millisecond, some a sequence, and the shard differs.
    let stamp = Stamp {
        ms: 1_700_000_000_000 + seq / 3,
        seq: seq % 3,
    };
    MessageId::new(stamp, u16::try_from(seq % 16).unwrap())
}

pub(crate) fn message(seq: u64, room_name: &str, body: impl Into<Bytes>) -> Arc<Message> {
    Arc::new(Message {
        id: id(seq),
        room: room(room_name),
        sender: UserName::parse("ann").unwrap(),
        content_type: None,
        headers: Headers::new(),
        body: body.into(),
        idempotency_key: None,
        prev: None,
        ephemeral: false,
    })
}

pub(crate) fn batch(seqs: impl IntoIterator<Item = u64>) -> Vec<Arc<Message>> {
    seqs.into_iter()
        .map(|seq| message(seq, "lobby", format!("body {seq}")))
        .collect()
}

pub(crate) fn outcome(stored: usize, duplicates: usize) -> Inserted {
    Inserted {
        stored,
        duplicates,
        refused: Vec::new(),
    }
}

async fn everything(store: &dyn Store, room_name: &str) -> Vec<Message> {
    let room = room(room_name);
    store.history(&room, Span::Newest, 10_000).await.unwrap()
}

macro_rules! every_store {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Place::sqlite()).await;
            })*
        }

        mod mongo {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Place::mongo().await).await;
            })*
        }
    };
}

every_store!(
    a_batch_is_stored_once_however_often_it_is_inserted,
    a_batch_that_is_partly_there_is_completed,
    another_message_under_an_id_that_is_taken_is_refused,
    the_same_batch_from_many_at_once_is_stored_once,
    nothing_to_do_is_done,
    history_is_cut_as_the_span_says,
    rooms_are_separate,
    a_users_queue_is_a_room_of_its_own,
    a_message_comes_back_octet_for_octet,
    stored_names_what_is_there,
    the_newest_is_the_greatest_id_of_all_rooms,
    the_keys_after_an_id_come_with_their_messages,
    a_dead_letter_is_kept_apart_from_the_messages,
    a_store_that_is_opened_again_has_everything,
    two_that_open_a_new_store_at_once_both_get_it,
    a_store_that_is_there_answers,
);

async fn a_batch_is_stored_once_however_often_it_is_inserted(place: Place) {
    let store = place.open().await;
    let batch = batch(0..250);
    assert_eq!(store.insert(&batch).await.unwrap(), outcome(250, 0));
    assert_eq!(store.insert(&batch).await.unwrap(), outcome(0, 250));
    let expected: Vec<_> = batch.iter().map(|message| (**message).clone()).collect();
    assert_eq!(everything(&*store, "lobby").await, expected);
}

async fn a_batch_that_is_partly_there_is_completed(place: Place) {
    let store = place.open().await;
    store.insert(&batch([3, 4, 9])).await.unwrap();
    // The last one twice: a batch may repeat itself.
    let mut again = batch(0..10);
    again.push(Arc::clone(&again[9]));
    assert_eq!(store.insert(&again).await.unwrap(), outcome(7, 4));
    assert_eq!(everything(&*store, "lobby").await.len(), 10);
}

async fn another_message_under_an_id_that_is_taken_is_refused(place: Place) {
    let store = place.open().await;
    store.insert(&batch(0..5)).await.unwrap();
    let mut again = batch(0..6);
    Arc::make_mut(&mut again[1]).room = room("elsewhere");
    Arc::make_mut(&mut again[2]).sender = UserName::parse("bob").unwrap();
    Arc::make_mut(&mut again[3]).idempotency_key = Some(IdempotencyKey::parse("k").unwrap());
    let mut inserted = store.insert(&again).await.unwrap();
    let mut refused = std::mem::take(&mut inserted.refused);
    refused.sort();
    let reason = || "another message has this id".to_owned();
    assert_eq!(refused, [1, 2, 3].map(|seq| (id(seq), reason())));
    assert_eq!(inserted, outcome(1, 2));
    assert_eq!(everything(&*store, "lobby").await.len(), 6);
    assert_eq!(everything(&*store, "elsewhere").await, []);
}

async fn the_same_batch_from_many_at_once_is_stored_once(place: Place) {
    let store = place.open().await;
    let inserts = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.insert(&batch(0..100)).await.unwrap() })
    });
    let mut total = outcome(0, 0);
    for insert in inserts.collect::<Vec<_>>() {
        let inserted = insert.await.unwrap();
        assert_eq!(inserted.stored + inserted.duplicates, 100);
        total.stored += inserted.stored;
    }
    assert_eq!(total.stored, 100);
    assert_eq!(everything(&*store, "lobby").await.len(), 100);
}

async fn nothing_to_do_is_done(place: Place) {
    let store = place.open().await;
    assert_eq!(store.insert(&[]).await.unwrap(), outcome(0, 0));
    assert_eq!(store.stored(&[]).await.unwrap(), []);
    store.bury(&[]).await.unwrap();
    assert_eq!(everything(&*store, "lobby").await, []);
    store.insert(&batch(0..3)).await.unwrap();
    let none = store.history(&room("lobby"), Span::Newest, 0).await;
    assert_eq!(none.unwrap(), []);
}

async fn history_is_cut_as_the_span_says(place: Place) {
    let store = place.open().await;
    // Out of order, as two persisters may write; the gaps are ids that other rooms have.
    let mut seqs: Vec<u64> = (0..60).filter(|seq| seq % 4 != 1).collect();
    seqs.reverse();
    store.insert(&batch(seqs.split_off(20))).await.unwrap();
    store.insert(&batch(seqs)).await.unwrap();
    let all: Vec<_> = (0..60).filter(|seq| seq % 4 != 1).map(id).collect();

    let bounds = [0, 1, 2, 13, 30, 58, 59].map(id);
    let spans = bounds
        .iter()
        .flat_map(|bound| [Span::After(*bound), Span::Before(*bound)])
        .chain([
            Span::After(MessageId::MIN),
            Span::Before(MessageId::MIN),
            Span::Newest,
        ]);
    for span in spans {
        for limit in [1, 2, 44, 45, 46, 1000] {
            let mut expected: Vec<_> = all
                .iter()
                .copied()
                .filter(|id| span.contains(*id))
                .collect();
            span.cut(&mut expected, limit);
            let read = store.history(&room("lobby"), span, limit).await.unwrap();
            let read: Vec<_> = read.iter().map(|message| message.id).collect();
            assert_eq!(read, expected, "{span:?}, at most {limit}");
        }
    }
}

async fn rooms_are_separate(place: Place) {
    let store = place.open().await;
    // Names that a pattern or a collation might take for each other.
    let names = [
        "lobby", "Lobby", "lobb", "lobby.", "lobby2", "a:b", "a-b", "@a", "~",
    ];
    let messages: Vec<_> = (0..90)
        .map(|seq| message(seq, names[usize::try_from(seq).unwrap() % names.len()], "x"))
        .collect();
    store.insert(&messages).await.unwrap();
    for name in names {
        let of_room = messages
            .iter()
            .filter(|message| message.room.as_str() == name);
        let expected: Vec<_> = of_room.map(|message| (**message).clone()).collect();
        assert_eq!(everything(&*store, name).await, expected, "{name}");
    }
    assert_eq!(everything(&*store, "empty").await, []);
}

async fn a_users_queue_is_a_room_of_its_own(place: Place) {
    let store = place.open().await;
    let longest = "김".repeat(42) + "/%";
    assert_eq!(longest.len(), UserName::MAX_LEN);
    let mut sent = Vec::new();
    for user in ["ann", "a/b", "a%2Fb", "a/queue", "50%", "김 철수", &longest] {
        for queue in ["queue/x", "topic/x", "queue/b/queue/x"] {
            let user = UserName::parse(user).unwrap();
            sent.push(Arc::new(Message {
                room: RoomName::queue(&user, queue).unwrap(),
                idempotency_key: Some(IdempotencyKey::parse("k").unwrap()),
                ..(*message(sent.len() as u64, "r", "hi")).clone()
            }));
        }
    }
    let inserted = store.insert(&sent).await.unwrap();
    assert_eq!(inserted, outcome(sent.len(), 0));
    for message in &sent {
        let queue = store.history(&message.room, Span::Newest, 100).await;
        assert_eq!(queue.unwrap(), [(**message).clone()]);
    }
    let keys = store.keys_after(MessageId::MIN).await.unwrap();
    let rooms: Vec<_> = keys.into_iter().map(|used| used.room).collect();
    let queues: Vec<_> = sent.iter().map(|message| message.room.clone()).collect();
    assert_eq!(rooms, queues);
}

async fn a_message_comes_back_octet_for_octet(place: Place) {
    let store = place.open().await;
    let every_octet: Vec<u8> = (0..=255).collect();
    let bodies: [&[u8]; 9] = [
        b"",
        b"plain",
        "안녕하세요 👋🏽 e\u{301}".as_bytes(),
        b"with a \0 inside\0",
        b"\xff\xfe not UTF-8 \xc3",
        b"\xed\xa0\x80",
        &every_octet,
        &[b'x'; 64 << 10],
        &[0xfe; 64 << 10],
    ];
    let mut sent = Vec::new();
    for (seq, body) in (0..).zip(bodies) {
        let mut bare = message(seq * 2, "lobby", Bytes::copy_from_slice(body));
        sent.push(Arc::clone(&bare));
        let full = Arc::make_mut(&mut bare);
        full.id = id(seq * 2 + 1);
        full.sender = UserName::parse("김 \"철수\" $ü.🙂").unwrap();
        full.content_type = Some("text/plain;charset=utf-8".into());
        full.headers = [
            ("b", "2"),
            ("a", ""),
            ("", "\n\0\\"),
            ("b", "값 🙂"),
            ("$set", "x.y"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        full.idempotency_key = Some(IdempotencyKey::parse("key-ß-1").unwrap());
        sent.push(bare);
    }
    store.insert(&sent).await.unwrap();
    let read = everything(&*store, "lobby").await;
    assert_eq!(read.len(), sent.len());
    for (read, sent) in read.iter().zip(&sent) {
        assert_eq!(read, &**sent);
    }
}

async fn stored_names_what_is_there(place: Place) {
    let store = place.open().await;
    store.insert(&batch([1, 3, 5])).await.unwrap();
    let mut found = store.stored(&[5, 4, 3, 2, 0].map(id)).await.unwrap();
    found.sort();
    assert_eq!(found, [3, 5].map(id));
}

async fn the_newest_is_the_greatest_id_of_all_rooms(place: Place) {
    let store = place.open().await;
    assert_eq!(store.newest().await.unwrap(), None);
    store.insert(&[message(7, "quiet", "x")]).await.unwrap();
    store.insert(&batch([6, 2])).await.unwrap();
    assert_eq!(store.newest().await.unwrap(), Some(id(7)));
}

async fn the_keys_after_an_id_come_with_their_messages(place: Place) {
    let store = place.open().await;
    let keyed = |number, room| {
        let mut message = (*message(number, room, "x")).clone();
        message.idempotency_key = Some(IdempotencyKey::parse(&format!("key {number}")).unwrap());
        Arc::new(message)
    };
    let batch = [
        keyed(1, "a"),
        keyed(2, "b"),
        message(3, "a", "x"),
        keyed(4, "a"),
    ];
    store.insert(&batch).await.unwrap();
    let used = |message: &Arc<Message>| UsedKey {
        id: message.id,
        room: message.room.clone(),
        sender: message.sender.clone(),
        key: message.idempotency_key.clone().unwrap(),
    };
    let after = store.keys_after(id(1)).await.unwrap();
    assert_eq!(after, [used(&batch[1]), used(&batch[3])]);
    assert_eq!(store.keys_after(id(4)).await.unwrap(), []);
}

async fn a_dead_letter_is_kept_apart_from_the_messages(place: Place) {
    let store = place.open().await;
    let letters = [
        DeadLetter {
            id: id(1),
            reason: "refused".into(),
            content: Ok(message(1, "lobby", "dead")),
        },
        DeadLetter {
            id: id(2),
            reason: "no message".into(),
            content: Err(b"\xff\0garbage".to_vec()),
        },
    ];
    store.bury(&letters[..1]).await.unwrap();
    store.bury(&letters).await.unwrap();
    store.bury(&letters).await.unwrap();
    assert_eq!(everything(&*store, "lobby").await, []);
    assert_eq!(store.stored(&[id(1), id(2)]).await.unwrap(), []);
    assert_eq!(store.newest().await.unwrap(), None);
}

async fn a_store_that_is_opened_again_has_everything(place: Place) {
    let store = place.open().await;
    store.insert(&batch(0..20)).await.unwrap();
    let before = everything(&*store, "lobby").await;
    drop(store);
    let store = place.open().await;
    assert_eq!(everything(&*store, "lobby").await, before);
    assert_eq!(store.insert(&batch(10..30)).await.unwrap(), outcome(10, 10));
}

async fn two_that_open_a_new_store_at_once_both_get_it(place: Place) {
    let (one, other) = tokio::join!(place.open(), place.open());
    one.insert(&batch([1])).await.unwrap();
    other.insert(&batch([2])).await.unwrap();
    assert_eq!(everything(&*one, "lobby").await.len(), 2);
    assert_eq!(everything(&*other, "lobby").await.len(), 2);
}

async fn a_store_that_is_there_answers(place: Place) {
    place.open().await.ping().await.unwrap();
}
