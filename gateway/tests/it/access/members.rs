//! `--access members`, on both stores.

use harness::{Mongo, StompFailure, until};
use rusqlite::{Connection, params};
use serde_json::json;
use shared::config::StoreUrl;
use tempfile::TempDir;

use super::{READS, Site, WRITES, everything, set};
use crate::running::backend_on;

/// Where the application writes memberships.
enum Place {
    Sqlite(TempDir),
    Mongo(&'static Mongo, String),
}

impl Place {
    fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    async fn mongo() -> Self {
        Self::Mongo(Mongo::shared().await, Mongo::database())
    }

    async fn site(&self, flags: &[&str]) -> Site {
        let store = match self {
            Self::Sqlite(folder) => StoreUrl::Sqlite(folder.path().join("messages.db")),
            Self::Mongo(mongo, database) => StoreUrl::Mongo {
                url: mongo.url(database),
                database: database.clone(),
            },
        };
        let flags = [&["--access", "members"], flags].concat();
        Site::new(backend_on(store).await, &flags).await
    }

    async fn write(&self, room: &str, user: &str, rights: Option<&str>) {
        match self {
            Self::Sqlite(folder) => {
                let connection = Connection::open(folder.path().join("messages.db")).unwrap();
                let row = params![room, user, rights];
                let sql = match rights {
                    Some(_) => "INSERT OR REPLACE INTO memberships VALUES (?1, ?2, ?3)",
                    None => "DELETE FROM memberships WHERE room = ?1 AND user = ?2 OR ?3 NOTNULL",
                };
                connection.execute(sql, row).unwrap();
            }
            Self::Mongo(mongo, database) => {
                mongo.write_membership(database, room, user, rights).await;
            }
        }
    }
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
    a_membership_says_who_may,
    a_membership_that_is_taken_away_ends_what_was_subscribed,
    who_is_let_in_gets_in,
);

async fn a_membership_says_who_may(place: Place) {
    let site = place.site(&[]).await;
    let _storing = site.backend.storing().await;
    for (room, rights) in [("read", "r"), ("write", "w"), ("both", "rw")] {
        place.write(room, "kim", Some(rights)).await;
        place.write(room, "kim2", Some("rw")).await;
    }
    // A claim of rooms means nothing here.
    let kim = json!({"sub": "kim", "rooms": {"*": "rw"}});
    assert_eq!(site.tries(&kim, "read").await, set(&READS));
    assert_eq!(site.tries(&kim, "write").await, set(&WRITES));
    assert_eq!(site.tries(&kim, "both").await, everything());
    for (user, room) in [
        ("kim", "other"),
        ("kim", "Both"),
        ("Kim", "both"),
        ("$ne", "both"),
    ] {
        let done = site.tries(&json!({"sub": user}), room).await;
        assert_eq!(done, set(&[]), "{user} in {room}");
    }
}

async fn a_membership_that_is_taken_away_ends_what_was_subscribed(place: Place) {
    let site = place.site(&["--access-ttl", "1s"]).await;
    let _storing = site.backend.storing().await;
    place.write("team", "kim", Some("rw")).await;
    place.write("team", "lee", Some("rw")).await;
    let (kim, lee) = (json!({"sub": "kim"}), json!({"sub": "lee"}));
    let mut evicted = site.client(kim.clone()).await;
    let mut stays = site.client(lee).await;
    for client in [&mut evicted, &mut stays] {
        client
            .subscribe("s", "/topic/rooms/team", &[])
            .await
            .unwrap();
    }
    place.write("team", "kim", None).await;
    let error = loop {
        match evicted.message().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let StompFailure::Unexpected { got, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(got.header("code"), Some("forbidden"));
    assert_eq!(evicted.close_code().await.unwrap(), Some(3003));
    assert_eq!(site.tries(&kim, "team").await, set(&[]));
    // Whoever is still a member hears and is heard.
    let sent = stays.send("/app/rooms/team", "still here", &[]).await;
    sent.unwrap();
    assert_eq!(stays.message().await.unwrap().body, "still here");
}

async fn who_is_let_in_gets_in(place: Place) {
    let site = place.site(&["--access-ttl", "1s"]).await;
    let _storing = site.backend.storing().await;
    let kim = json!({"sub": "kim"});
    assert_eq!(site.tries(&kim, "team").await, set(&[]));
    place.write("team", "kim", Some("rw")).await;
    until("the old answer is too old", async || {
        site.tries(&kim, "team").await == everything()
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_away_lets_nobody_in_and_is_not_noticed_when_it_is_short() {
    let mongo = Mongo::start().await;
    let database = Mongo::database();
    let store = StoreUrl::Mongo {
        url: mongo.url(&database),
        database: database.clone(),
    };
    let flags = ["--access", "members", "--access-timeout", "300ms"];
    let site = Site::new(backend_on(store).await, &flags).await;
    mongo
        .write_membership(&database, "team", "kim", Some("rw"))
        .await;
    let kim = json!({"sub": "kim"});
    let mut client = site.client(kim.clone()).await;
    client
        .subscribe("s", "/topic/rooms/team", &[])
        .await
        .unwrap();
    mongo.pause().await;
    // What has been answered counts; what has not is refused.
    let mut second = site.client(kim.clone()).await;
    second
        .subscribe("s", "/topic/rooms/team", &[])
        .await
        .unwrap();
    let refused = second.subscribe("t", "/topic/rooms/other", &[]).await;
    let StompFailure::Unexpected { got, .. } = refused.unwrap_err() else {
        panic!("an ERROR was expected");
    };
    assert_eq!(got.header("code"), Some("access-unavailable"));
    mongo.resume().await;
    until("the store answers", async || {
        let mut third = site.client(kim.clone()).await;
        let refused = third.subscribe("t", "/topic/rooms/other", &[]).await;
        matches!(refused, Err(StompFailure::Unexpected { got, .. })
            if got.header("code") == Some("forbidden"))
    })
    .await;
}
