//! What the driver's errors mean for a caller.

use mongodb::error::{Error, ErrorKind, IndexedWriteError};

use crate::store::StoreError;

/// A write error for a key that is there already.
const DUPLICATE_KEY: i32 = 11000;

/// Write errors that a document gets for what it is, and will get again: BadValue, FailedToParse,
/// TypeMismatch, InvalidBSON, DollarPrefixedFieldName, InvalidIdField, EmptyFieldName,
/// DottedFieldName, DocumentValidationFailure, CannotIndexParallelArrays, BSONObjectTooLarge,
/// KeyTooLong. Whatever is not in this list is worth another try.
const PERMANENT: [i32; 12] = [2, 9, 14, 22, 52, 53, 56, 57, 121, 171, 10334, 17280];

/// Command errors that stay until a person changes something: Unauthorized,
/// AuthenticationFailed, IllegalOperation, CommandNotFound, InvalidOptions, InvalidNamespace,
/// IndexOptionsConflict, IndexKeySpecsConflict, AtlasError.
const SET_UP: [i32; 9] = [13, 18, 20, 59, 72, 73, 85, 86, 8000];

/// Says in one line what an error means for whoever runs this.
pub(super) fn failure(error: Error) -> StoreError {
    let text = error.kind.to_string().replace('\n', " ");
    match *error.kind {
        ErrorKind::ServerSelection { message, .. } => {
            // The driver describes all that it knows of every server; the first cause says enough.
            let cause = message.split("Error: Kind: ").nth(1);
            let cause = cause.and_then(|rest| rest.split(", labels:").next());
            StoreError::Unavailable(cause.map_or(text, str::to_owned))
        }
        ErrorKind::Command(command) if SET_UP.contains(&command.code) => {
            StoreError::Misconfigured(format!("MongoDB does not do that: {}", command.message))
        }
        ErrorKind::Authentication { message, .. } => {
            StoreError::Misconfigured(format!("MongoDB does not let this user in: {message}"))
        }
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. } => StoreError::Misconfigured(text),
        _ => StoreError::Unavailable(text),
    }
}

/// What became of the documents that an unordered insert did not write; the others it wrote.
#[derive(Debug, Default)]
pub(super) struct WriteFailure {
    /// There already, by their `_id`.
    pub(super) duplicates: Vec<usize>,
    /// There already, or in the way of a unique index that somebody added: only a look can tell.
    pub(super) doubtful: Vec<(usize, String)>,
    /// Never to be written, with the reason.
    pub(super) refused: Vec<(usize, String)>,
}

impl WriteFailure {
    /// Sorts the errors of an unordered insert.
    ///
    /// Duplicates count as durable: a server that meets one waits for a majority to have what it
    /// has seen itself before it answers, and says so with a write concern error if that fails.
    ///
    /// # Errors
    /// [`StoreError`] when some document's fate is open: the whole batch is to be repeated. That
    /// covers a server that broke off in the middle, which it reports as an error of this kind
    /// for one document and nothing for the rest.
    pub(super) fn of(error: Error) -> Result<Self, StoreError> {
        let ErrorKind::InsertMany(failed) = *error.kind else {
            return Err(failure(error));
        };
        if let Some(concern) = failed.write_concern_error {
            return Err(StoreError::Unavailable(format!(
                "MongoDB did not get the write to a majority: {}",
                concern.message
            )));
        }
        let mut sorted = Self::default();
        for error in failed.write_errors.unwrap_or_default() {
            let IndexedWriteError {
                index,
                code,
                message,
                ..
            } = error;
            match code {
                // The server shortens the messages of very many errors to nothing.
                DUPLICATE_KEY if message.contains(" index: _id_ ") => sorted.duplicates.push(index),
                DUPLICATE_KEY => sorted.doubtful.push((index, message)),
                code if PERMANENT.contains(&code) => sorted.refused.push((index, message)),
                _ => {
                    return Err(StoreError::Unavailable(format!(
                        "MongoDB did not write: {message} (code {code})"
                    )));
                }
            }
        }
        Ok(sorted)
    }
}
