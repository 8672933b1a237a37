//! One process for one file: two of them would carry messages past each other.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use shared::exit::Failure;

/// Claims the file at `store`, by a lock beside it, until the answer is dropped or the process
/// ends, however that comes about.
///
/// # Errors
/// [`Failure::Unavailable`] when another process has it, [`Failure::Config`] when it cannot be
/// written there.
pub(crate) fn claim(store: &Path) -> Result<File, Failure> {
    let path = store.with_extension("lock");
    let unwritable =
        |reason| Failure::Config(format!("{} cannot be written: {reason}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Unavailable(format!(
            "another roomcast uses {}: stop it, or give this one another --data-dir",
            store.display()
        ))),
        Err(TryLockError::Error(reason)) => Err(unwritable(reason)),
    }
}
