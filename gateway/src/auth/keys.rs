//! The keys that an operator has given, by flags or in files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::key::{self, Key, KeyError};

/// Octets of a file at most.
const FILE: u64 = 256 << 10;

/// Keys, whose secrets `Debug` does not show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Vec<Key>);

/// Why a file has no keys.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error("the file is larger than {FILE} octets")]
    Large,
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Keys {
    /// Adds what stands in a flag or a file.
    ///
    /// # Errors
    /// [`KeyError`] when that is no key.
    pub(crate) fn add(&mut self, octets: &[u8]) -> Result<(), KeyError> {
        self.0.extend(key::keys(octets)?);
        Ok(())
    }

    /// The keys in all of these files. It blocks.
    ///
    /// # Errors
    /// A line that names the first file that has none, and says why.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut keys = Self::default();
        for file in files {
            keys.add_file(file)
                .map_err(|reason| format!("--jwt-key-file {}: {reason}", file.display()))?;
        }
        Ok(keys)
    }

    fn add_file(&mut self, file: &Path) -> Result<(), FileError> {
        let mut octets = Vec::new();
        let read = File::open(file)?.take(FILE + 1).read_to_end(&mut octets)?;
        if read as u64 > FILE {
            return Err(FileError::Large);
        }
        Ok(self.add(&octets)?)
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Key] {
        &self.0
    }
}
