//! Where the workspace's binaries are, built when they are missing or older than their sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

/// The path of a binary of the workspace, in the target folder and the profile of the running
/// test. It is looked for, and built where that is due, once in a test process.
///
/// # Panics
/// When the workspace has no such binary, or it does not build.
pub fn path(name: &str) -> PathBuf {
    static FOUND: OnceLock<Mutex<BTreeMap<String, PathBuf>>> = OnceLock::new();

    let mut found = FOUND
        .get_or_init(Mutex::default)
        .lock()
        .expect("no other test panicked here");
    if let Some(path) = found.get(name) {
        return path.clone();
    }
    let path = folder().join(name);
    if !is_fresh(&path) {
        build(name);
        assert!(
            path.is_file(),
            "cargo built {name}, but not as {}",
            path.display()
        );
    }
    found.insert(name.to_owned(), path.clone());
    path
}

/// `<target>/<profile>`, where cargo leaves binaries; tests run one folder below, in `deps`.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let deps = test.parent().expect("a file is in a folder");
    assert!(
        deps.ends_with("deps"),
        "{} was not built by `cargo test`",
        test.display()
    );
    deps.parent().expect("deps is in a folder").to_owned()
}

/// Whether the binary is at least as new as each source that cargo's `.d` file beside it names.
/// Asking cargo itself would rebuild the dependencies wherever `cargo test` had chosen other
/// features for them.
fn is_fresh(binary: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(built) = changed(binary) else {
        return false;
    };
    let Ok(rule) = std::fs::read_to_string(binary.with_extension("d")) else {
        return false;
    };
    // A space in a path is written `\ `.
    let rule = rule.trim().replace("\\ ", "\0");
    let Some((target, sources)) = rule.split_once(": ") else {
        return false;
    };
    Path::new(&target.replace('\0', " ")) == binary
        && sources.split(' ').all(|source| {
            let source = source.replace('\0', " ");
            changed(Path::new(&source)).is_some_and(|time: SystemTime| time <= built)
        })
}

fn build(name: &str) {
    let folder = folder();
    let target = folder
        .parent()
        .expect("a profile's folder is in the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The features of dependencies are those of the whole workspace, as in CI, so that the
    // dependencies are not built once more for each binary.
    command
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            name,
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command
        .status()
        .expect("cargo starts, as it started this test");
    assert!(status.success(), "{command:?} failed: {status}");
}
