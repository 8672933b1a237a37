//! What every store promises of the memberships that an application writes.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures_util::future::join_all;
use mongodb::options::{Collation, IndexOptions};
use mongodb::{Client, Collection, IndexModel};
use rusqlite::{Connection, params};
use shared::config::StoreUrl;
use shared::message::{RoomName, UserName};
use shared::store::{Rights, Store, StoreError};

use crate::store_conformance::{Place, room};

const NOTHING: Rights = Rights {
    read: false,
    write: false,
};

fn rights(text: &str) -> Rights {
    Rights::parse(text).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

async fn collection(url: &str, database: &str) -> Collection<Document> {
    let client = Client::with_uri_str(url).await.unwrap();
    client.database(database).collection("memberships")
}

/// Writes a membership, in place of one that is there, as the application does.
async fn write(place: &Place, room: &str, user: &str, rights: &str) {
    match &place.settings.url {
        StoreUrl::Sqlite(path) => {
            let row = params![room, user, rights];
            let connection = Connection::open(path).unwrap();
            connection
                .execute(
                    "INSERT OR REPLACE INTO memberships VALUES (?1, ?2, ?3)",
                    row,
                )
                .unwrap();
        }
        StoreUrl::Mongo { url, database } => {
            let key = doc! { "room": room, "user": user };
            let set = doc! { "$set": { "rights": rights } };
            let collection = collection(url, database).await;
            collection.update_one(key, set).upsert(true).await.unwrap();
        }
    }
}

async fn remove(place: &Place, room: &str, user: &str) {
    match &place.settings.url {
        StoreUrl::Sqlite(path) => {
            let connection = Connection::open(path).unwrap();
            let sql = "DELETE FROM memberships WHERE room = ?1 AND user = ?2";
            connection.execute(sql, params![room, user]).unwrap();
        }
        StoreUrl::Mongo { url, database } => {
            let key = doc! { "room": room, "user": user };
            collection(url, database)
                .await
                .delete_one(key)
                .await
                .unwrap();
        }
    }
}

async fn prepared(place: &Place) -> Arc<dyn Store> {
    let store = place.open().await;
    store.prepare_rights().await.unwrap();
    store
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
    a_right_is_what_was_written_last,
    a_right_is_of_one_user_in_one_room,
    no_name_is_taken_for_an_operator_or_a_pattern,
    preparing_twice_at_once_and_later_keeps_what_is_there,
);

async fn a_right_is_what_was_written_last(place: Place) {
    let store = prepared(&place).await;
    let (team, ann) = (room("team"), user("ann"));
    assert_eq!(store.rights(&team, &ann).await.unwrap(), NOTHING);
    for text in ["r", "w", "rw", "r"] {
        write(&place, "team", "ann", text).await;
        assert_eq!(store.rights(&team, &ann).await.unwrap(), rights(text));
    }
    remove(&place, "team", "ann").await;
    assert_eq!(store.rights(&team, &ann).await.unwrap(), NOTHING);
}

async fn a_right_is_of_one_user_in_one_room(place: Place) {
    let store = prepared(&place).await;
    let queue = RoomName::queue(&user("김 철수"), "queue/x").unwrap();
    for (at, by) in [
        ("team", "ann"),
        (queue.as_str(), "ann"),
        ("team", "김 철수"),
    ] {
        write(&place, at, by, "rw").await;
    }
    for at in [room("team"), room("Team"), room("tea"), room("team.")] {
        for by in ["ann", "Ann", "an", "ann ", "김 철수", "bob"] {
            let is_theirs = at.as_str() == "team" && ["ann", "김 철수"].contains(&by);
            let expected = if is_theirs { rights("rw") } else { NOTHING };
            let found = store.rights(&at, &user(by)).await.unwrap();
            assert_eq!(found, expected, "{by} in {at}");
        }
    }
    let found = store.rights(&queue, &user("ann")).await.unwrap();
    assert_eq!(found, rights("rw"));
}

async fn no_name_is_taken_for_an_operator_or_a_pattern(place: Place) {
    let store = prepared(&place).await;
    write(&place, "team", "ann", "rw").await;
    for by in [
        "$ne",
        "{\"$ne\":null}",
        "{\"$gt\":\"\"}",
        "%",
        "a%",
        "*",
        ".*",
        "' OR 1=1 --",
        "ann' --",
        "ann\" OR \"\"=\"",
        "?2",
    ] {
        let found = store.rights(&room("team"), &user(by)).await.unwrap();
        assert_eq!(found, NOTHING, "{by}");
        write(&place, "team", by, "r").await;
        let found = store.rights(&room("team"), &user(by)).await.unwrap();
        assert_eq!(found, rights("r"), "{by}");
    }
    let found = store.rights(&room("team"), &user("ann")).await.unwrap();
    assert_eq!(found, rights("rw"));
}

async fn preparing_twice_at_once_and_later_keeps_what_is_there(place: Place) {
    let store = place.open().await;
    for prepared in join_all((0..4).map(|_| store.prepare_rights())).await {
        prepared.unwrap();
    }
    write(&place, "team", "ann", "rw").await;
    drop(store);
    let store = prepared(&place).await;
    let found = store.rights(&room("team"), &user("ann")).await.unwrap();
    assert_eq!(found, rights("rw"));
}

#[tokio::test]
async fn a_document_that_is_no_membership_is_no_right() {
    let place = Place::mongo().await;
    let StoreUrl::Mongo { url, database } = &place.settings.url else {
        panic!("no MongoDB");
    };
    let database = Client::with_uri_str(url).await.unwrap().database(database);
    // By this collation `TEAM` is `team`.
    let collation = Collation::builder()
        .locale("en".to_owned())
        .strength(mongodb::options::CollationStrength::Primary)
        .build();
    let made = database.create_collection("memberships");
    made.collation(collation).await.unwrap();
    let store = prepared(&place).await;
    let collection = database.collection::<Document>("memberships");
    let odd: [(&str, Bson, Bson); 9] = [
        (
            "list",
            Bson::Array(vec!["list".into(), "x".into()]),
            "rw".into(),
        ),
        ("number", "number".into(), 7.into()),
        ("flag", "flag".into(), true.into()),
        ("null", "null".into(), Bson::Null),
        ("rights", "rights".into(), Bson::Array(vec!["rw".into()])),
        ("object", "object".into(), doc! { "$ne": 1 }.into()),
        ("text", "text".into(), "admin".into()),
        ("empty", "empty".into(), "".into()),
        ("team", "TEAM".into(), "rw".into()),
    ];
    for (at, written, rights) in odd {
        let document = doc! { "room": written, "user": "ann", "rights": rights };
        collection.insert_one(document).await.unwrap();
        let found = store.rights(&room(at), &user("ann")).await.unwrap();
        assert_eq!(found, NOTHING, "{at}");
    }
}

#[tokio::test]
async fn memberships_that_cannot_be_told_apart_are_refused_with_what_to_do() {
    let place = Place::mongo().await;
    let StoreUrl::Mongo { url, database } = &place.settings.url else {
        panic!("no MongoDB");
    };
    let collection = collection(url, database).await;
    let twice = doc! { "room": "team", "user": "ann", "rights": "r" };
    collection.insert_many([&twice, &twice]).await.unwrap();
    let store = place.open().await;
    let refusal = async || match store.prepare_rights().await {
        Err(StoreError::Misconfigured(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refusal().await;
    assert!(text.contains("several documents"), "{text}");
    collection.delete_one(twice).await.unwrap();
    let index = IndexModel::builder()
        .keys(doc! { "room": 1, "user": 1 })
        .options(IndexOptions::builder().unique(false).build())
        .build();
    collection.create_index(index).await.unwrap();
    let text = refusal().await;
    assert!(text.contains("unique index"), "{text}");
    collection.drop_indexes().await.unwrap();
    store.prepare_rights().await.unwrap();
}

#[tokio::test]
async fn a_row_that_the_application_made_its_own_way_is_no_right() {
    let place = Place::sqlite();
    let store = place.open().await;
    let StoreUrl::Sqlite(path) = &place.settings.url else {
        panic!("no file");
    };
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE memberships (room, user, rights);
             INSERT INTO memberships VALUES ('a', 'ann', 7), ('b', 'ann', NULL),
                ('c', 'ann', x'7277'), ('d', 'ann', 'admin'), ('e', 'ann', 'rw');",
        )
        .unwrap();
    store.prepare_rights().await.unwrap();
    for at in ["a", "b", "c", "d"] {
        let found = store.rights(&room(at), &user("ann")).await.unwrap();
        assert_eq!(found, NOTHING, "{at}");
    }
    let found = store.rights(&room("e"), &user("ann")).await.unwrap();
    assert_eq!(found, rights("rw"));
}

#[tokio::test]
async fn a_mistake_in_a_row_is_told_where_it_is_made() {
    let place = Place::sqlite();
    prepared(&place).await;
    let StoreUrl::Sqlite(path) = &place.settings.url else {
        panic!("no file");
    };
    let connection = Connection::open(path).unwrap();
    for rights in ["", "admin", "wr"] {
        let sql = "INSERT INTO memberships VALUES ('team', 'ann', ?1)";
        assert!(connection.execute(sql, [rights]).is_err(), "{rights}");
    }
}
