//! Where `scripts/test` puts what it installs for this project's tests alone.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/roomcast`, or `~/.cache/roomcast`; nothing where there is no home either.
pub fn folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Some(cache?.join("roomcast"))
}
