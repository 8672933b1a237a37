//! Connecting, and the indexes.

use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, CommitQuorum, CreateIndexOptions,
    IndexOptions, ReadConcern, ReadPreference, SelectionCriteria, ServerAddress, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};

use super::failure::failure;
use super::{DEAD_LETTERS, MEMBERSHIPS, MESSAGES, Mongo};
use crate::config::{Retention, StoreSettings};
use crate::store::StoreError;

/// The most connections to one server, where the URL does not say.
const POOL: u32 = 32;

/// How often each server is looked at, where the URL does not say (`heartbeatFrequencyMS`). Between
/// two looks a server of a replica set reports a change by itself; this is for one that fell
/// silent.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long connecting, and the answer to a look, may take, where the URL does not say
/// (`connectTimeoutMS`). A frozen server, or one behind a link that swallows everything, is given
/// up after this and [`HEARTBEAT`] together: only then are the idle connections to it closed, and
/// until then each call that takes one of them waits for its own deadline.
const CONNECT: Duration = Duration::from_secs(5);

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

/// The driver has no time-out for the answer to a command (it ignores `socketTimeoutMS`): each
/// call has its deadline from [`crate::store::within`] instead, and the driver closes a connection
/// whose command was given up, so that no later call waits for that answer.
///
/// Retryable writes and reads stay on, as they are by default: a call that meets an election is
/// tried once more by the driver, on the new primary. What that does not cover the persister
/// repeats.
fn tuned(mut options: ClientOptions, settings: &StoreSettings) -> ClientOptions {
    options.app_name.get_or_insert_with(|| "roomcast".into());
    options.max_pool_size.get_or_insert(POOL);
    // A call waits for a new primary for as long as it may take: an election is over before that.
    options.server_selection_timeout = Some(settings.connect_timeout);
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    let connect = settings.connect_timeout.min(CONNECT);
    options.connect_timeout.get_or_insert(connect);
    options
}

/// Every call goes to the primary: secondaries are behind it, and a message that the journal has
/// let go must be in what is read.
///
/// A write that a majority does not take within the deadline is answered with an error
/// (`wtimeout`): a server would otherwise hold the command, and its thread, for as long as the
/// majority is away. The write itself stays, and may come to a majority later.
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
        dead_letters: database.collection_with_options(DEAD_LETTERS, options.clone()),
        memberships: database.collection_with_options(MEMBERSHIPS, options),
        deadline,
        database,
    }
}

async fn prepare(mongo: &Mongo, retention: Retention) -> Result<(), StoreError> {
    let single = is_single(mongo).await?;
    if single {
        tracing::warn!(
            "this MongoDB is a single server and no replica set: what it has acknowledged is lost \
             with its disk"
        );
    }
    let by_room = IndexModel::builder()
        .keys(doc! { "room": 1, "_id": 1 })
        .build();
    make_index(&mongo.messages, by_room, single)
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
        Retention::For(age) => expire_after(mongo, age, single).await,
    }
}

/// Whether it is one server, and neither a replica set nor a sharded cluster.
pub(super) async fn is_single(mongo: &Mongo) -> Result<bool, StoreError> {
    let hello = mongo
        .database
        .run_command(doc! { "hello": 1 })
        .await
        .map_err(failure)?;
    Ok(!hello.contains_key("setName") && hello.get_str("msg").ok() != Some("isdbgrid"))
}

/// Makes an index where it is missing. Of a replica set's nodes a majority has to have built it:
/// all of them, which is the default, would wait for one that is down.
pub(super) async fn make_index(
    collection: &Collection<RawDocumentBuf>,
    index: IndexModel,
    single: bool,
) -> Result<(), Error> {
    let quorum = (!single).then_some(CommitQuorum::Majority);
    let made = collection.create_index(index);
    let options = CreateIndexOptions::builder().commit_quorum(quorum).build();
    made.with_options(options).await.map(drop)
}

async fn expire_after(mongo: &Mongo, age: Duration, single: bool) -> Result<(), StoreError> {
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
    match make_index(&mongo.messages, index, single).await {
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
        created => created.map_err(failure),
    }
}

pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
