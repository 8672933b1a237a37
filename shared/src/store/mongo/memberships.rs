//! The collection of memberships, which the application writes: `room`, `user`, and `rights`.

use bson::{RawDocument, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;

use super::failure::failure;
use super::setup::{code, is_single, make_index};
use super::{MEMBERSHIPS, Mongo};
use crate::message::{RoomName, UserName};
use crate::store::{Rights, StoreError};

/// Codes of command errors: DuplicateKey, IndexOptionsConflict, IndexKeySpecsConflict.
const DUPLICATE: i32 = 11_000;
const INDEX_DIFFERS: [i32; 2] = [85, 86];

/// Makes the index by which a right is found, and which lets there be one for each room and user.
pub(super) async fn prepare(mongo: &Mongo) -> Result<(), StoreError> {
    let single = is_single(mongo).await?;
    let index = IndexModel::builder()
        .keys(doc! { "room": 1, "user": 1 })
        .options(IndexOptions::builder().unique(true).build())
        .build();
    make_index(&mongo.memberships, index, single)
        .await
        .map_err(|error| match code(&error) {
            Some(DUPLICATE) => StoreError::Misconfigured(format!(
                "{MEMBERSHIPS} has several documents for one room and user, or several without \
                 them: leave one of each"
            )),
            Some(code) if INDEX_DIFFERS.contains(&code) => StoreError::Misconfigured(format!(
                "{MEMBERSHIPS} needs a unique index on room and user, and another one is in its \
                 place: drop that one"
            )),
            _ => failure(error),
        })
}

pub(super) async fn rights(
    mongo: &Mongo,
    room: &RoomName,
    user: &UserName,
) -> Result<Rights, StoreError> {
    let (room, user) = (room.as_str(), user.as_str());
    let found = mongo
        .memberships
        .find_one(doc! { "room": room, "user": user })
        .projection(doc! { "_id": 0, "room": 1, "user": 1, "rights": 1 })
        .max_time(mongo.deadline)
        .await
        .map_err(failure)?;
    let Some(found) = found else {
        return Ok(Rights::default());
    };
    let rights = understood(&found, room, user);
    if rights.is_none() {
        tracing::debug!("a document in `{MEMBERSHIPS}` is no membership");
    }
    Ok(rights.unwrap_or_default())
}

/// What a document says, where it is a membership of this very room and user: the server also finds
/// an array that has the name in it and, by the collection's own collation, a name in other letters.
fn understood(document: &RawDocument, room: &str, user: &str) -> Option<Rights> {
    let text = |name| document.get_str(name).ok();
    if text("room")? != room || text("user")? != user {
        return None;
    }
    Rights::parse(text("rights")?)
}
