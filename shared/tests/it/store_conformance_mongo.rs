//! What the store in MongoDB promises beside.

use std::sync::Arc;
use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use futures_util::TryStreamExt;
use harness::Mongo;
use mongodb::{Client, Database};
use shared::config::{Retention, StoreUrl};
use shared::message::{IdempotencyKey, Message, MessageId, Span};
use shared::store::mongo::Query;
use shared::store::{self, DeadLetter, Store, StoreError};

use crate::store_conformance::{Place, batch, id, message, outcome, room};

/// The place's database, beside the store.
async fn database(place: &Place) -> Database {
    let StoreUrl::Mongo { url, database } = &place.settings.url else {
        panic!("no MongoDB");
    };
    Client::with_uri_str(url).await.unwrap().database(database)
}

async fn documents(database: &Database, collection: &str) -> Vec<Document> {
    let collection = database.collection::<Document>(collection);
    let found = collection.find(doc! {}).sort(doc! { "_id": 1 });
    found.await.unwrap().try_collect().await.unwrap()
}

fn binary_id(id: MessageId) -> Bson {
    let bytes = id.uuid().as_bytes().to_vec();
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes,
    })
}

async fn refusal(place: &Place) -> StoreError {
    let error = store::open(&place.settings).await.err().unwrap();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

/// Repeats what a caller repeats, and says how often it failed before.
async fn until_stored(store: &dyn Store, batch: &[Arc<Message>]) -> usize {
    let mut failures = 0;
    let stored = async {
        while let Err(error) = store.insert(batch).await {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            failures += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stored)
        .await
        .unwrap();
    failures
}

#[tokio::test]
async fn history_is_an_index_scan_in_the_indexs_order() {
    let place = Place::mongo().await;
    let store = place.open().await;
    store.insert(&batch(0..200)).await.unwrap();
    store.insert(&[message(500, "quiet", "x")]).await.unwrap();
    let database = database(&place).await;
    for span in [Span::After(id(3)), Span::Before(id(190)), Span::Newest] {
        for name in ["lobby", "quiet", "empty"] {
            let Query {
                filter,
                sort,
                index,
            } = Query::history(&room(name), span);
            let find = doc! {
                "find": "messages", "filter": filter, "sort": sort, "hint": index, "limit": 10,
            };
            let explain = doc! { "explain": find, "verbosity": "executionStats" };
            let plan = database.run_command(explain).await.unwrap();
            let winner = plan
                .get_document("queryPlanner")
                .unwrap()
                .get_document("winningPlan")
                .unwrap();
            let text = winner.to_string();
            assert!(text.contains("\"IXSCAN\""), "{text}");
            assert!(text.contains("\"room_1__id_1\""), "{text}");
            assert!(
                !text.contains("COLLSCAN") && !text.contains("SORT"),
                "{text}"
            );
            let stats = plan.get_document("executionStats").unwrap();
            let read = stats.get_i32("totalKeysExamined").unwrap();
            assert!(read <= 11, "{span:?} of {name} reads {read} keys for 10");
        }
    }
}

#[tokio::test]
async fn a_document_is_as_the_design_says() {
    let place = Place::mongo().await;
    let store = place.open().await;
    let mut full = message(1, "lobby", "안녕");
    let edit = Arc::make_mut(&mut full);
    edit.content_type = Some("text/plain".into());
    edit.headers = vec![("x".into(), "1".into()), ("x".into(), "2".into())];
    edit.idempotency_key = Some(IdempotencyKey::parse("k").unwrap());
    edit.prev = Some(id(0));
    let bare = message(2, "lobby", &b"\xff\xfe"[..]);
    store.insert(&[full, bare]).await.unwrap();
    let database = database(&place).await;
    let created_at = |seq: u64| DateTime::from_millis(i64::try_from(id(seq).stamp().ms).unwrap());
    let bytes = Binary {
        subtype: BinarySubtype::Generic,
        bytes: b"\xff\xfe".to_vec(),
    };
    assert_eq!(
        documents(&database, "messages").await,
        [
            doc! {
                "_id": binary_id(id(1)), "room": "lobby", "createdAt": created_at(1),
                "sender": "ann", "contentType": "text/plain", "body": "안녕",
                "idempotencyKey": "k", "headers": [["x", "1"], ["x", "2"]],
            },
            doc! {
                "_id": binary_id(id(2)), "room": "lobby", "createdAt": created_at(2),
                "sender": "ann", "body": bytes,
            },
        ]
    );
}

#[tokio::test]
async fn a_dead_letter_keeps_the_message_or_what_stood_in_its_place() {
    let place = Place::mongo().await;
    let store = place.open().await;
    let letter = |seq, content| DeadLetter {
        id: id(seq),
        reason: "why".into(),
        content,
    };
    let letters = [
        letter(1, Ok(message(1, "lobby", "dead"))),
        letter(2, Err(b"\xff\0raw".to_vec())),
        letter(3, Ok(message(3, "lobby", vec![0xff; 17 << 20]))),
    ];
    store.bury(&letters).await.unwrap();
    store.bury(&letters).await.unwrap();
    let buried = documents(&database(&place).await, "dead_letters").await;
    let [message, raw, large] = &buried[..] else {
        panic!("not three: {}", buried.len());
    };
    assert_eq!(message.get("_id"), Some(&binary_id(id(1))));
    assert_eq!(message.get_str("reason").unwrap(), "why");
    assert_eq!(message.get_str("room").unwrap(), "lobby");
    assert_eq!(message.get_str("body").unwrap(), "dead");
    assert_eq!(raw.get_binary_generic("raw").unwrap(), b"\xff\0raw");
    let kept = large.get_binary_generic("body").unwrap().len();
    assert!(kept >= 8 << 20, "{kept}");
    let reason = large.get_str("reason").unwrap();
    assert_eq!(reason, "why; the body is cut from 17825792 octets");
}

#[tokio::test]
async fn what_a_validator_refuses_does_not_stop_the_others() {
    let place = Place::mongo().await;
    let store = place.open().await;
    let rule = doc! { "body": { "$ne": "spam" } };
    let change = doc! { "collMod": "messages", "validator": rule };
    database(&place).await.run_command(change).await.unwrap();
    let mut messages = batch(0..5);
    messages[2] = message(2, "lobby", "spam");
    // Again with all the others there already.
    for (stored, duplicates) in [(4, 0), (0, 4)] {
        let mut inserted = store.insert(&messages).await.unwrap();
        let (refused, reason) = inserted.refused.pop().unwrap();
        assert_eq!(refused, id(2));
        assert!(reason.contains("failed validation"), "{reason}");
        assert_eq!(inserted, outcome(stored, duplicates));
    }
}

#[tokio::test]
async fn what_is_too_large_does_not_stop_the_others() {
    let place = Place::mongo().await;
    let store = place.open().await;
    let fixed = 200;
    let mut messages = batch(0..3);
    messages[0] = message(0, "lobby", vec![b'x'; (16 << 20) - fixed]);
    messages[1] = message(1, "lobby", vec![b'x'; 16 << 20]);
    let mut inserted = store.insert(&messages).await.unwrap();
    let (refused, reason) = inserted.refused.pop().unwrap();
    assert_eq!(refused, id(1));
    assert!(reason.contains("at most 16777216 fit"), "{reason}");
    assert_eq!(inserted, outcome(2, 0));
    let history = store.history(&room("lobby"), Span::Newest, 10).await;
    assert_eq!(history.unwrap().len(), 2);
}

#[tokio::test]
async fn a_duplicate_of_something_else_than_the_id_is_refused() {
    let place = Place::mongo().await;
    let store = place.open().await;
    let key = doc! { "key": { "sender": 1, "body": 1 }, "name": "once", "unique": true };
    let index = doc! { "createIndexes": "messages", "indexes": [key] };
    database(&place).await.run_command(index).await.unwrap();
    store.insert(&[message(1, "lobby", "same")]).await.unwrap();
    let messages = [
        message(1, "lobby", "same"),
        message(2, "lobby", "same"),
        message(3, "lobby", "other"),
    ];
    let mut inserted = store.insert(&messages).await.unwrap();
    let (refused, reason) = inserted.refused.pop().unwrap();
    assert_eq!(refused, id(2));
    assert!(reason.contains("index: once"), "{reason}");
    assert_eq!(inserted, outcome(1, 1));
}

#[tokio::test]
async fn very_many_duplicates_are_all_recognised() {
    let place = Place::mongo().await;
    let store = place.open().await;
    // So many that the server no longer says what each error was.
    let messages = batch(0..20_000);
    store.insert(&messages).await.unwrap();
    assert_eq!(store.insert(&messages).await.unwrap(), outcome(0, 20_000));
}

#[tokio::test]
async fn documents_of_others_are_left_out() {
    let place = Place::mongo().await;
    let store = place.open().await;
    store.insert(&batch(0..3)).await.unwrap();
    let others = [
        doc! { "room": "lobby", "text": "an ObjectId" },
        doc! { "_id": binary_id(id(9)), "room": "lobby", "body": 5 },
        doc! { "_id": "text", "room": "lobby", "sender": "ann", "body": "" },
    ];
    let messages = database(&place).await.collection("messages");
    messages.insert_many(others).await.unwrap();
    let history = store.history(&room("lobby"), Span::Newest, 10).await;
    let history: Vec<_> = history.unwrap().iter().map(|message| message.id).collect();
    assert_eq!(history, [0, 1, 2].map(id));
    let read = store.history(&room("lobby"), Span::After(id(0)), 2).await;
    assert_eq!(read.unwrap().len(), 2);
}

#[tokio::test]
async fn the_retention_is_set_changed_and_removed_by_who_decides_it() {
    let mut place = Place::mongo().await;
    let database = database(&place).await;
    let hour = Duration::from_secs(3600);
    for (retention, seconds) in [
        (Retention::Unchanged, None),
        (Retention::For(hour), Some(3600)),
        (Retention::Unchanged, Some(3600)),
        (Retention::For(2 * hour), Some(7200)),
        (Retention::For(2 * hour), Some(7200)),
        (Retention::Forever, None),
        (Retention::Forever, None),
    ] {
        place.settings.retention = retention;
        place.open().await;
        let messages = database.collection::<Document>("messages");
        let indexes = messages.list_indexes().await.unwrap();
        let indexes: Vec<_> = indexes.try_collect().await.unwrap();
        let expiry = indexes
            .iter()
            .find_map(|index| index.options.as_ref()?.expire_after);
        assert_eq!(expiry, seconds.map(Duration::from_secs), "{retention:?}");
        let by_room = doc! { "room": 1, "_id": 1 };
        assert!(indexes.iter().any(|index| index.keys == by_room));
    }
}

#[tokio::test]
async fn messages_beyond_the_retention_are_removed() {
    let mut place = Place::mongo().await;
    place.settings.retention = Retention::For(Duration::from_secs(3600));
    let store = place.open().await;
    // These ids are of 2023.
    store.insert(&batch(0..10)).await.unwrap();
    let removed = async {
        while store.newest().await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removed)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_retention_that_cannot_be_kept_is_refused() {
    let mut place = Place::mongo().await;
    for age in [Duration::from_millis(10), Duration::from_secs(1 << 31)] {
        place.settings.retention = Retention::For(age);
        let error = refusal(&place).await;
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
        assert!(
            error.to_string().contains("1 second to 68 years"),
            "{error}"
        );
    }
    let index = doc! { "key": { "createdAt": 1 }, "name": "mine" };
    let index = doc! { "createIndexes": "messages", "indexes": [index] };
    database(&place).await.run_command(index).await.unwrap();
    place.settings.retention = Retention::For(Duration::from_secs(3600));
    let error = refusal(&place).await;
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    assert!(
        error.to_string().contains("another one is in its place"),
        "{error}"
    );
}

#[tokio::test]
async fn a_killed_server_is_unavailable_and_loses_nothing() {
    let mut mongo = Mongo::start().await;
    let mut place = Place::on(&mongo);
    place.settings.operation_timeout = Duration::from_secs(2);
    let store = place.open().await;
    store.insert(&batch(0..50)).await.unwrap();
    mongo.kill().await;
    for error in [
        store.insert(&batch(0..100)).await.unwrap_err(),
        store
            .history(&room("lobby"), Span::Newest, 9)
            .await
            .unwrap_err(),
        store.ping().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    mongo.restart().await;
    until_stored(&*store, &batch(0..100)).await;
    let history = store.history(&room("lobby"), Span::Newest, 1000).await;
    assert_eq!(history.unwrap().len(), 100);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_at_the_deadline() {
    let mongo = Mongo::start().await;
    let mut place = Place::on(&mongo);
    place.settings.operation_timeout = Duration::from_millis(500);
    let store = place.open().await;
    mongo.pause().await;
    let error = store.insert(&batch(0..10)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    mongo.resume().await;
    until_stored(&*store, &batch(0..10)).await;
    assert_eq!(store.stored(&[id(0), id(9)]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_counts_as_stored_before_a_majority_has_it() {
    let mongo = Mongo::start().await;
    let follower = mongo.follower().await;
    let mut place = Place::on(&mongo);
    let store = place.open().await;
    let calm = batch(0..5);
    assert_eq!(store.insert(&calm).await.unwrap(), outcome(5, 0));
    place.settings.operation_timeout = Duration::from_millis(500);
    let hasty = place.open().await;
    follower.pause().await;
    let batch = batch(0..10);
    // The primary alone has it after the first, and finds duplicates from then on.
    for _ in 0..3 {
        let error = hasty.insert(&batch).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    let error = hasty.insert(&calm).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(store.stored(&[id(4), id(9)]).await.unwrap(), [id(4)]);
    let history = store.history(&room("lobby"), Span::Newest, 100).await;
    assert_eq!(history.unwrap().len(), 5);

    follower.resume().await;
    assert_eq!(store.insert(&batch).await.unwrap(), outcome(0, 10));
    assert_eq!(store.stored(&[id(4), id(9)]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut mongo = Mongo::start().await;
    let mut place = Place::on(&mongo);
    mongo.kill().await;
    place.settings.connect_timeout = Duration::from_millis(300);
    let error = refusal(&place).await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(
        error.to_string().contains("MongoDB at 127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_for_a_person_to_change() {
    let mut place = Place::mongo().await;
    if let StoreUrl::Mongo { url, .. } = &mut place.settings.url {
        *url = url.replace("://", "://ann:s3cr3t@");
    }
    let error = refusal(&place).await;
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("does not let this user in"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
}
