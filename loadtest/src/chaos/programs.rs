//! The programs that a world is made of.

use std::path::{Path, PathBuf};

use shared::exit::Failure;

use super::scenario::System;

/// Where our own programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Looks for all that the systems need, ours in `folder` or beside this program.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when one is missing, with its name.
    pub(crate) fn find(folder: Option<&Path>, systems: &[System]) -> Result<Self, Failure> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => std::env::current_exe()
                .ok()
                .and_then(|program| Some(program.parent()?.to_owned()))
                .ok_or_else(|| Failure::Unavailable("this program has no folder".into()))?,
        };
        let programs = Self { folder };
        for system in systems {
            let ours: &[&str] = match system {
                System::Standalone => &["roomcast"],
                _ => &["gateway", "persister"],
            };
            for name in ours {
                let path = programs.path(name);
                if !path.is_file() {
                    return Err(Failure::Unavailable(format!(
                        "there is no {}: `cargo build --release --workspace` makes it, or name \
                         its folder with --bin-dir",
                        path.display()
                    )));
                }
            }
            if *system != System::Standalone {
                harness::mongo::program().map_err(Failure::Unavailable)?;
                let path = std::env::var_os("PATH").unwrap_or_default();
                let mut folders = std::env::split_paths(&path);
                if !folders.any(|folder| folder.join("redis-server").is_file()) {
                    let line = "there is no redis-server in PATH: install redis 7 or newer";
                    return Err(Failure::Unavailable(line.into()));
                }
            }
        }
        Ok(programs)
    }

    /// Where the program of this name is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
