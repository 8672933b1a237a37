//! A data file that cannot be used: each ends the start with one line, and is left as it is.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Process, binary};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::{FILE, client, get, start};

/// A folder in which a server has stored fifty messages of this size and ended.
async fn used(octets: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]).await;
    let mut kim = client(&server, "kim").await;
    for number in 0..50 {
        let headers = [("receipt", "r")];
        let body = format!("{number} {}", "x".repeat(octets));
        kim.send("/app/rooms/r", body, &headers).await.unwrap();
        kim.receipt("r").await.unwrap();
    }
    server.terminate().await;
    assert_eq!(server.wait().await.code(), Some(0));
    // Into the file with everything, so that damage is not covered by the log.
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    let whole = file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(whole.unwrap(), 0);
    drop(file);
    folder
}

/// The exit code and the one line of a server on this folder, which leaves its file as it is.
async fn refusal(folder: &Path) -> (i32, String) {
    let file = folder.join(FILE);
    let before = fs::read(&file).ok();
    let refused = end(folder).await;
    assert_eq!(fs::read(&file).ok(), before);
    refused
}

/// The exit code and the one line of a server on this folder.
async fn end(folder: &Path) -> (i32, String) {
    let mut server = start(folder, &["--connect-timeout", "500ms"]).await;
    let code = server.wait().await.code().unwrap();
    let output = server.output();
    // What is logged before it opens the file is not about it.
    let about: Vec<_> = output
        .lines()
        .filter(|line| !line.contains("INFO"))
        .collect();
    assert_eq!(about.len(), 1, "{output}");
    (code, about[0].to_owned())
}

/// The same for a server that may not overlook the rights of files, as root otherwise does.
async fn refusal_without_privilege(folder: &Path) -> (i32, String) {
    let program = binary::path("roomcast");
    let own = [
        "--data-dir",
        folder.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let mut server = if root {
        let drop = [
            "--bounding-set=-dac_override,-dac_read_search",
            "--inh-caps=-dac_override,-dac_read_search",
            program.to_str().unwrap(),
        ];
        Process::run("setpriv", drop.iter().chain(&own), [("RUST_LOG", "warn")])
    } else {
        Process::run(program, own, [("RUST_LOG", "warn")])
    };
    let code = server.wait().await.code().unwrap();
    let output = server.output();
    assert_eq!(output.lines().count(), 1, "{output}");
    (code, output)
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn damage(folder: &Path, from: usize, octets: usize) -> PathBuf {
    let file = folder.join(FILE);
    let mut content = fs::read(&file).unwrap();
    content[from..from + octets].fill(0x5a);
    fs::write(&file, content).unwrap();
    file
}

#[tokio::test]
async fn a_file_with_a_garbage_header_ends_with_64() {
    let folder = used(2000).await;
    damage(folder.path(), 0, 100);
    let (code, line) = refusal(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(
        line.contains("messages.db is not an SQLite database"),
        "{line}"
    );
}

#[tokio::test]
async fn a_file_that_is_damaged_in_the_middle_ends_with_64() {
    let folder = used(2000).await;
    let pages = fs::metadata(folder.path().join(FILE)).unwrap().len() as usize / 4096;
    assert!(pages > 20, "{pages}");
    damage(folder.path(), pages / 2 * 4096, 4096);
    let (code, line) = refusal(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("messages.db is damaged"), "{line}");
    assert!(line.contains("restore it"), "{line}");
}

#[tokio::test]
async fn a_file_of_another_application_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TABLE recipes (name)").unwrap();
    drop(other);
    let (code, line) = refusal(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("another program's database"), "{line}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_ends_with_64() {
    let folder = used(2000).await;
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let (code, line) = refusal(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("newer version"), "{line}");
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(FILE)).unwrap();
    let (code, line) = refusal(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("is a folder, not a file"), "{line}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_ends_with_69() {
    let folder = used(2000).await;
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    let mode = other.query_row("PRAGMA journal_mode = DELETE", [], |row| {
        row.get::<_, String>(0)
    });
    assert_eq!(mode.unwrap(), "delete");
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Reading the file here would give up the lock, which is this process's.
    let (code, line) = end(folder.path()).await;
    assert_eq!(code, 69, "{line}");
    assert!(line.contains("is locked by another process"), "{line}");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_ends_with_64() {
    let folder = used(2000).await;
    set_mode(&folder.path().join(FILE), 0o400);
    let (code, line) = refusal_without_privilege(folder.path()).await;
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("messages.db cannot be written"), "{line}");
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_ends_with_64() {
    let folder = used(2000).await;
    fs::remove_file(folder.path().join("messages.lock")).unwrap();
    set_mode(folder.path(), 0o500);
    let (code, line) = refusal_without_privilege(folder.path()).await;
    set_mode(folder.path(), 0o700);
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("cannot be written"), "{line}");
}

#[tokio::test]
async fn a_file_that_is_damaged_under_a_server_is_said_and_other_rooms_go_on() {
    let folder = used(60_000).await;
    // More than a connection keeps in its cache.
    let server = start(folder.path(), &[]).await;
    let address = server.ready().await;
    let pages = fs::metadata(folder.path().join(FILE)).unwrap().len() as usize / 4096;
    damage(folder.path(), pages / 4 * 4096, pages / 2 * 4096);
    let (status, body) = get(address, "/api/rooms/r/messages?limit=50").await;
    assert_eq!(status, 503, "{}", &body[..body.len().min(100)]);
    server
        .line(|line| line.contains("ERROR") && line.contains("is damaged"))
        .await;
    let (status, body) = get(address, "/api/rooms/quiet/messages?limit=50").await;
    assert_eq!(status, 200, "{body}");
}
