//! Connecting, and the indexes.

use std::time::Duration;

use bson::doc;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern, ReadPreference,
    SelectionCriteria, ServerAddress, WriteConcern,
};
use mongodb::{Client, Database, IndexModel};

use super::failure::failure;
use super::{DEAD_LETTERS, MESSAGES, Mongo};
use crate::config::{Retention, StoreSettings};
use crate::store::StoreError;

/// The most connections to one server, where the URL does not say.
const POOL: u32 = 32;

/// The name of the index that removes old messages.
const RETENTION: &str = "retention";

/// Codes of command errors: NamespaceNotFound, IndexNotFound, IndexOptionsConflict.
const NO_COLLECTION: i32 = 26;
const NO_INDEX: i32 = 27;
const INDEX_DIFFERS: i32 = 85;

pub(super) async fn open(
    url: &str,
    database: &str,
    settings: &StoreSettings,
) -> Result<Mongo, StoreError> {
    let patience = settings.connect_timeout;
    let late =
        |what: &str| StoreError::Unavailable(format!("no answer from {what} in {patience:?}"));
    let options = tokio::time::timeout(patience, ClientOptions::parse(url))
        .await
        .map_err(|_| late("DNS"))?
        .map_err(failure)?;
    let options = tuned(options, settings);
    let hosts = options
        .hosts
        .iter()
        .map(ServerAddress::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let client = Client::with_options(options).map_err(failure)?;
    let mongo = collections(client.database(database), settings.operation_timeout);
    let prepare = prepare(&mongo, settings.retention);
    let prepared = tokio::time::timeout(patience + settings.operation_timeout, prepare).await;
    match prepared.unwrap_or_else(|_| Err(late("the primary"))) {
        Ok(()) => Ok(mongo),
        Err(StoreError::Unavailable(why)) => Err(StoreError::Unavailable(format!(
            "MongoDB at {hosts} is not available: {why}"
        ))),
        Err(StoreError::Misconfigured(why)) => Err(StoreError::Misconfigured(format!(
            "MongoDB at {hosts}: {why}"
        ))),
    }
}

fn tuned(mut options: ClientOptions, settings: &StoreSettings) -> ClientOptions {
    options.app_name.get_or_insert_with(|| "roomcast".into());
    options.max_pool_size.get_or_insert(POOL);
    options.server_selection_timeout = Some(settings.connect_timeout);
    // A server that takes connections and says nothing is given up in the same time.
    options.connect_timeout = Some(settings.connect_timeout);
    options
}

fn collections(database: Database, deadline: Duration) -> Mongo {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .write_concern(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(deadline)
                .build(),
        )
        .build();
    Mongo {
        messages: database.collection_with_options(MESSAGES, options.clone()),
        dead_letters: database.collection_with_options(DEAD_LETTERS, options),
        deadline,
        database,
    }
}

async fn prepare(mongo: &Mongo, retention: Retention) -> Result<(), StoreError> {
    let hello = mongo
        .database
        .run_command(doc! { "hello": 1 })
        .await
        .map_err(failure)?;
    if !hello.contains_key("setName") && hello.get_str("msg").ok() != Some("isdbgrid") {
        tracing::warn!(
            "this MongoDB is a single server and no replica set: what it has acknowledged is lost \
             with its disk"
        );
    }
    let by_room = IndexModel::builder()
        .keys(doc! { "room": 1, "_id": 1 })
        .build();
    mongo
        .messages
        .create_index(by_room)
        .await
        .map_err(failure)?;
    match retention {
        Retention::Unchanged => Ok(()),
        Retention::Forever => match mongo.messages.drop_index(RETENTION).await {
            Err(error) if !matches!(code(&error), Some(NO_COLLECTION | NO_INDEX)) => {
                Err(failure(error))
            }
            _ => Ok(()),
        },
        Retention::For(age) => expire_after(mongo, age).await,
    }
}

async fn expire_after(mongo: &Mongo, age: Duration) -> Result<(), StoreError> {
    let Some(seconds) = i32::try_from(age.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0)
    else {
        return Err(StoreError::Misconfigured(
            "MongoDB can keep messages for 1 second to 68 years".into(),
        ));
    };
    let index = IndexModel::builder()
        .keys(doc! { "createdAt": 1 })
        .options(
            IndexOptions::builder()
                .name(RETENTION.to_owned())
                .expire_after(Duration::from_secs(age.as_secs()))
                .build(),
        )
        .build();
    match mongo.messages.create_index(index).await {
        Err(error) if code(&error) == Some(INDEX_DIFFERS) => {
            let index = doc! { "name": RETENTION, "expireAfterSeconds": seconds };
            let change = doc! { "collMod": MESSAGES, "index": index };
            match mongo.database.run_command(change).await {
                Err(error) if code(&error) == Some(NO_INDEX) => Err(StoreError::Misconfigured(
                    "the retention needs an index on createdAt of its own, and another one is in \
                     its place: drop that one"
                        .into(),
                )),
                changed => changed.map(drop).map_err(failure),
            }
        }
        created => created.map(drop).map_err(failure),
    }
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
