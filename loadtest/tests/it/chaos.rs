//! `loadtest chaos` as a user runs it: a short selection of its scenarios and controls.

use std::path::Path;

use harness::{Process, binary, until};
use serde_json::Value;
use tempfile::TempDir;

/// A place where everything that a run starts can be told from what others started.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        for name in ["gateway", "persister", "roomcast"] {
            let link = folder.path().join("bin").join(name);
            std::os::unix::fs::symlink(binary::path(name), link).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Starts `loadtest chaos` with these flags.
    fn chaos(&self, flags: &[&str]) -> Process {
        let bin = self.path("bin");
        let flags = [&["chaos", "--bin-dir", &bin], flags].concat();
        let program = binary::path("loadtest");
        Process::run(program, &flags, [("TMPDIR", self.path("tmp"))])
    }

    /// Runs it to its end; gives the exit code, the rows of its table, and all that it wrote.
    async fn rows(&self, flags: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let json = self.path("rows.json");
        let mut chaos = self.chaos(&[&["--json", &json], flags].concat());
        while chaos.runs() {
            // A run of several scenarios takes longer than one condition may.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let status = chaos.wait().await;
        let output = chaos.output();
        let rows = std::fs::read_to_string(json).unwrap_or_else(|_| panic!("{output}"));
        let Value::Array(rows) = serde_json::from_str(&rows).unwrap() else {
            panic!("no rows: {rows}");
        };
        (status.code(), rows, output)
    }

    /// How many processes run that were started from here, or have their data here.
    fn running(&self) -> usize {
        let here = self.folder.path().to_str().unwrap().as_bytes();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines =
            processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines
            .filter(|line| line.windows(here.len()).any(|part| part == here))
            .count()
    }

    /// Waits until nothing of a run is left, neither a process nor a file.
    async fn is_left_clean(&self) {
        until("every process of the run to end", async || {
            self.running() == 0
        })
        .await;
        until("its files to be removed", async || {
            is_empty(Path::new(&self.path("tmp")))
        })
        .await;
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

fn names<'a>(scenarios: &[&'a str]) -> Vec<&'a str> {
    let flags = scenarios.iter().flat_map(|name| ["--scenario", name]);
    flags.collect()
}

/// The debts of a row that are not zero.
fn debts(row: &Value) -> Vec<(&String, u64)> {
    let all = row["debts"].as_object().unwrap().iter();
    all.map(|(name, count)| (name, count.as_u64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[tokio::test]
async fn nothing_is_owed_when_a_process_dies_or_is_cut_off() {
    let scenarios = [
        "gateway-killed",
        "persister-unacknowledged",
        "redis-killed",
        "cut-gateway-redis",
        "slow-reader",
        "standalone-killed",
    ];
    let place = Place::new();
    let flags = [&["--rounds", "1", "--seed", "4"], &names(&scenarios)[..]].concat();
    let (code, rows, output) = place.rows(&flags).await;
    for row in &rows {
        assert_eq!(debts(row), [], "{output}");
        assert_eq!(row["broken"], Value::Null, "{output}");
        assert_eq!(row["rounds"], 1, "{output}");
        assert!(row["receipted"].as_u64().unwrap() > 0, "{output}");
        assert!(row["stores"]["max"].as_f64().is_some(), "{output}");
        assert!(row["interruption"]["max"].as_f64().is_some(), "{output}");
    }
    let run: Vec<_> = rows
        .iter()
        .map(|row| row["scenario"].as_str().unwrap())
        .collect();
    assert_eq!(run.len(), scenarios.len(), "{output}");
    assert!(scenarios.iter().all(|name| run.contains(name)), "{output}");
    assert_eq!(code, Some(0), "{output}");
    place.is_left_clean().await;
}

#[tokio::test]
async fn what_a_protection_prevents_happens_without_it() {
    let place = Place::new();
    let scenarios = ["redis-killed", "lose-gateway-redis", "gateway-terminated"];
    let flags = [
        &["--rounds", "2", "--seed", "4", "--control"],
        &names(&scenarios)[..],
    ]
    .concat();
    let (code, rows, output) = place.rows(&flags).await;
    assert_eq!(rows.len(), 3, "{output}");
    for row in &rows {
        assert_ne!(debts(row), [], "{output}");
        assert_eq!(row["control"], true, "{output}");
    }
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test]
async fn nothing_is_left_when_a_run_is_killed_or_interrupted() {
    let everything = ["--rounds", "1000", "--scenario", "gateway-killed"];
    for signal in ["INT", "KILL"] {
        let place = Place::new();
        let mut chaos = place.chaos(&everything);
        chaos
            .line(|line| line.contains("gateway-killed 1/1000"))
            .await;
        assert!(place.running() > 4, "the system runs");
        match signal {
            "KILL" => {
                chaos.kill().await;
                // Its files stay, as it could not remove them.
                until("every process to end", async || place.running() == 0).await;
            }
            _ => {
                chaos.interrupt().await;
                let status = chaos.wait().await;
                let output = chaos.output();
                assert_eq!(status.code(), Some(1), "{output}");
                assert!(
                    output.contains("\ngateway-killed "),
                    "the table so far: {output}"
                );
                assert!(output.contains("interrupted"), "{output}");
                place.is_left_clean().await;
            }
        }
    }
}

#[tokio::test]
async fn a_program_that_is_missing_ends_it_with_69_and_a_wrong_flag_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    for (flags, code, says) in [
        (&["--bin-dir", folder][..], 69, "gateway"),
        (&["--scenario", "no-such"], 64, "--list"),
        // What would otherwise show at the end of hours, or not at all.
        (&["--json", "/no-such/rows.json"], 64, "--json"),
        (&["--markdown", folder], 64, "--markdown"),
        (
            &["--control", "--scenario", "persister-killed"],
            64,
            "--list",
        ),
    ] {
        let mut chaos = Process::spawn("loadtest", ["chaos"].iter().chain(flags));
        let status = chaos.wait().await;
        assert_eq!(status.code(), Some(code), "{}", chaos.output());
        assert_eq!(chaos.output().lines().count(), 1, "{}", chaos.output());
        assert!(chaos.output().contains(says), "{}", chaos.output());
    }
}

#[test]
fn who_stops_reading_what_it_prints_is_no_error() {
    let mut chaos = std::process::Command::new(binary::path("loadtest"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let chaos = chaos.args(["chaos", "--list"]).stdout(writer);
    let ended = chaos.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*said), (Some(0), ""));
}

#[tokio::test]
async fn the_list_names_every_scenario_and_what_proves_it() {
    let mut chaos = Process::spawn("loadtest", ["chaos", "--list"]);
    assert!(chaos.wait().await.success());
    let list = chaos.output();
    for part in ["gateway", "persister", "redis", "mongod"] {
        for fate in ["killed", "terminated", "frozen"] {
            let name = format!("{part}-{fate} ");
            assert!(
                list.lines().any(|line| line.starts_with(&name)),
                "{name}: {list}"
            );
        }
    }
    assert!(list.contains("- control: "), "{list}");
}
