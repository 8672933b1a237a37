//! The command that makes the documentation's figures.

use harness::{Process, binary};
use serde_json::Value;

/// Makes figures with the programs beside this one's, which are built first where that is due.
fn figures(flags: &[&str]) -> Process {
    for program in ["gateway", "persister", "roomcast"] {
        binary::path(program);
    }
    Process::spawn("loadtest", ["figures", "--quick"].iter().chain(flags))
}

#[tokio::test]
async fn the_persister_is_measured_beside_a_bare_loop_of_inserts() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [json, html, markdown] = ["f.json", "f.html", "f.md"].map(file);
    let flags = [
        "--only",
        "persister",
        "--json",
        &json,
        "--html",
        &html,
        "--markdown",
        &markdown,
    ];
    let mut figures = figures(&flags);
    let status = figures.wait().await;
    let output = figures.output();
    assert!(status.success(), "{output}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let found: Value = serde_json::from_str(&read(&json)).unwrap();
    let set = &found["sets"][0];
    assert_eq!(set["name"], "persister");
    let rows = set["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{set:#}");
    for row in rows {
        assert!(row[1]["median"].as_f64().unwrap() > 0.0, "{row}");
    }
    let target = &set["targets"][0];
    let found = target["found"].as_f64().unwrap();
    assert_eq!(target["met"], found >= 0.7, "{target}");
    assert!(read(&markdown).contains("| persister / insert_many loop | ≥ 0.70 |"));
    assert!(read(&html).contains("<h2>persister</h2>"));
}

#[tokio::test]
async fn idle_connections_over_several_gateways_are_all_subscribed_and_none_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("f.json");
    let mut figures = figures(&["--only", "many", "--json", json.to_str().unwrap()]);
    figures
        .line(|line| line.contains("many: 2 of 2 gateways have 5000 each"))
        .await;
    let status = figures.wait().await;
    let output = figures.output();
    assert!(status.success(), "{output}");
    let found: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let set = &found["sets"][0];
    let rows = set["tables"][0]["rows"].as_array().unwrap();
    let value = |what: &str| {
        let mut named = rows.iter();
        let row = named.find(|row| row[0].as_str().unwrap().starts_with(what));
        row.unwrap_or_else(|| panic!("{what}: {set:#}"))[1]["median"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(value("connections, all the time"), 10_000.0, "{output}");
    assert!(value("TCP sockets") >= 20_000.0, "{output}");
    assert!(value("gateways' memory") > 0.0, "{output}");
    assert!(!output.contains("idle connections, gateway"), "{output}");
}

#[tokio::test]
async fn figures_that_are_interrupted_are_shown_as_far_as_they_are() {
    let mut figures = figures(&["--only", "stored"]);
    figures
        .line(|line| line.contains("stored: 10000 messages"))
        .await;
    figures.interrupt().await;
    let status = figures.wait().await;
    let output = figures.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("### stored"), "{output}");
    assert!(output.contains("- Not finished: interrupted."), "{output}");
    assert!(
        output.contains("loadtest: not finished: stored"),
        "{output}"
    );
}
