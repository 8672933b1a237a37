//! What the store in a file promises beside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use shared::config::{Retention, StoreUrl};
use shared::message::{Message, MessageId, Span, Stamp};
use shared::store::{self, DeadLetter, StoreError, sqlite};
use tempfile::TempDir;

use crate::store_conformance::{Place, batch, id, message, outcome, room};

fn file(place: &Place) -> PathBuf {
    match &place.settings.url {
        StoreUrl::Sqlite(path) => path.clone(),
        StoreUrl::Mongo { .. } => panic!("no file"),
    }
}

/// What opening `path` says, in one line.
async fn refusal(path: &Path) -> StoreError {
    let mut place = Place::sqlite();
    place.settings.url = StoreUrl::Sqlite(path.to_owned());
    place.settings.connect_timeout = Duration::from_millis(50);
    let error = store::open(&place.settings).await.err().unwrap();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn misconfigured(error: StoreError) -> String {
    match error {
        StoreError::Misconfigured(text) => text,
        StoreError::Unavailable(text) => panic!("nobody can wait for that: {text}"),
    }
}

#[tokio::test]
async fn history_is_an_index_scan() {
    let place = Place::sqlite();
    place.open().await.insert(&batch(0..50)).await.unwrap();
    let connection = Connection::open(file(&place)).unwrap();
    for span in [Span::After(id(1)), Span::Before(id(9)), Span::Newest] {
        let sql = format!("EXPLAIN QUERY PLAN {}", sqlite::history_sql(span));
        let mut statement = connection.prepare(&sql).unwrap();
        let bound = id(1).uuid().as_bytes().to_vec();
        for (index, value) in [&"lobby" as &dyn rusqlite::ToSql, &10, &bound]
            .into_iter()
            .enumerate()
            .take(statement.parameter_count())
        {
            statement.raw_bind_parameter(index + 1, value).unwrap();
        }
        let mut rows = statement.raw_query();
        let mut plan = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            plan.push(row.get::<_, String>(3).unwrap());
        }
        let [step] = &plan[..] else {
            panic!("more than a scan: {plan:?}");
        };
        assert!(
            step.starts_with("SEARCH messages USING INDEX messages_by_room (room=?"),
            "{step}"
        );
        assert_eq!(step.contains("AND id"), span != Span::Newest, "{step}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let place = Place::sqlite();
    let store = place.open().await;
    store.insert(&batch(0..10)).await.unwrap();
    // What a crash leaves: the files as they are, with nothing closed or checkpointed.
    let after = Place::sqlite();
    std::fs::create_dir(file(&after).parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |place| format!("{}{suffix}", file(place).display());
        std::fs::copy(name(&place), name(&after)).unwrap();
    }
    let history = after
        .open()
        .await
        .history(&room("lobby"), Span::Newest, 100)
        .await
        .unwrap();
    assert_eq!(history.len(), 10);
    let connection = Connection::open(file(&place)).unwrap();
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_dead_letter_keeps_the_message_or_what_stood_in_its_place() {
    let place = Place::sqlite();
    let store = place.open().await;
    let letter = |seq, content| DeadLetter {
        id: id(seq),
        reason: "why".into(),
        content,
    };
    let letters = [
        letter(1, Ok(message(1, "lobby", "dead"))),
        letter(2, Err(b"\xff\0raw".to_vec())),
    ];
    store.bury(&letters).await.unwrap();
    store.bury(&letters).await.unwrap();
    let connection = Connection::open(file(&place)).unwrap();
    let mut statement = connection
        .prepare("SELECT reason, room, body, raw FROM dead_letters ORDER BY id")
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    type Row = (String, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Row> = rows.collect::<Result<_, _>>().unwrap();
    let expected: [Row; 2] = [
        (
            "why".into(),
            Some("lobby".into()),
            Some(b"dead".to_vec()),
            None,
        ),
        ("why".into(), None, None, Some(b"\xff\0raw".to_vec())),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_message_that_a_rule_of_the_file_refuses_does_not_stop_the_others() {
    let place = Place::sqlite();
    let store = place.open().await;
    let connection = Connection::open(file(&place)).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER no_spam BEFORE INSERT ON messages WHEN new.body = x'7370616d'
             BEGIN SELECT RAISE(ABORT, 'spam is not kept'); END;",
        )
        .unwrap();
    let mut messages = batch(0..5);
    messages[2] = message(2, "lobby", "spam");
    let mut inserted = store.insert(&messages).await.unwrap();
    let (refused, reason) = inserted.refused.pop().unwrap();
    assert_eq!(refused, id(2));
    assert!(reason.contains("spam is not kept"), "{reason}");
    assert_eq!(inserted, outcome(4, 0));
}

#[tokio::test]
async fn messages_beyond_the_retention_are_removed() {
    let old = Place::sqlite();
    let store = old.open().await;
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis();
    let mut new = Message::clone(&message(1, "lobby", "new"));
    new.id = MessageId::new(
        Stamp {
            ms: u64::try_from(now).unwrap(),
            seq: 0,
        },
        0,
    );
    // More than one step of the sweep.
    store.insert(&batch(0..1200)).await.unwrap();
    store.insert(&[new.clone().into()]).await.unwrap();
    drop(store);

    let mut place = old;
    place.settings.retention = Retention::For(Duration::from_secs(3600));
    let store = place.open().await;
    let read = async || {
        store
            .history(&room("lobby"), Span::Newest, 2000)
            .await
            .unwrap()
    };
    let removed = async {
        while read().await.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removed)
        .await
        .unwrap();
    assert_eq!(read().await, [new]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(
        &path,
        "not a database, but long enough to have a header\n".repeat(100),
    )
    .unwrap();
    let text = misconfigured(refusal(&path).await);
    assert!(
        text.ends_with("notes.txt is not an SQLite database"),
        "{text}"
    );
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("not a database")
    );
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE messages (id); PRAGMA user_version = 1;")
        .unwrap();
    let text = misconfigured(refusal(&path).await);
    assert!(text.contains("another program's database"), "{text}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let place = Place::sqlite();
    drop(place.open().await);
    let connection = Connection::open(file(&place)).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    let text = misconfigured(refusal(&file(&place)).await);
    assert!(text.contains("newer version"), "{text}");
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let place = Place::sqlite();
    let store = place.open().await;
    store.insert(&batch(0..500)).await.unwrap();
    drop(store);
    let path = file(&place);
    // Into the file with everything, so that the damage is not covered by the log.
    Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let mut octets = std::fs::read(&path).unwrap();
    octets[4096..].fill(0x5a);
    std::fs::write(&path, octets).unwrap();
    let error = match store::open(&place.settings).await {
        Ok(store) => store
            .history(&room("lobby"), Span::Newest, 10)
            .await
            .unwrap_err(),
        Err(error) => error,
    };
    let text = misconfigured(error);
    assert!(text.contains("chat.db is damaged"), "{text}");
}

#[tokio::test]
async fn a_path_that_cannot_be_a_file_is_named() {
    let folder = TempDir::new().unwrap();
    let text = misconfigured(refusal(folder.path()).await);
    assert!(text.ends_with("is a folder, not a file"), "{text}");

    std::fs::write(folder.path().join("file"), "").unwrap();
    let text = misconfigured(refusal(&folder.path().join("file/chat.db")).await);
    assert!(text.contains("file cannot be created"), "{text}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_worth_waiting_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("chat.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("chat.db is locked by another process"),
        "{error}"
    );
}
