//! What a run leaves behind for those who were not there: JSON, a page, and comparisons of them.

use std::fs;
use std::path::Path;

use harness::Process;
use roxmltree::{Document, ParsingOptions};
use serde_json::Value;

async fn loadtest(flags: &[&str]) -> (Option<i32>, String) {
    let mut loadtest = Process::spawn("loadtest", flags);
    let status = loadtest.wait().await;
    (status.code(), loadtest.output())
}

/// The ids of a page's sections, when it is sound and needs nothing else.
fn sections(html: &str) -> Vec<String> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(html, options).unwrap();
    for element in document.descendants().filter(|node| node.is_element()) {
        let name = element.tag_name().name();
        let needs = ["script", "link", "img", "image", "iframe", "object", "use"];
        assert!(!needs.contains(&name), "{name}");
        for attribute in element.attributes() {
            assert!(
                !["src", "href", "style"].contains(&attribute.name()),
                "{attribute:?}"
            );
        }
        if name == "style" {
            let style = element.text().unwrap();
            assert!(
                !style.contains("url(") && !style.contains("@import"),
                "{style}"
            );
        }
    }
    let sections = document
        .descendants()
        .filter(|node| node.tag_name().name() == "section");
    let ids = sections.filter_map(|node| node.attribute("id"));
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_run_can_be_read_again_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = Process::spawn(
        "roomcast",
        [
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
            &at("data"),
        ],
    );
    let url = format!("ws://{}/ws", server.ready().await);
    let pid = format!("roomcast={}", server.pid());
    let mut reports = Vec::new();
    for users in ["2", "4", "8"] {
        let (json, html) = (at(&format!("{users}.json")), at(&format!("{users}.html")));
        let load = [
            "rooms",
            "--gateway",
            &url,
            "--users",
            users,
            "--duration",
            "1s",
        ];
        let files = ["--pid", &pid, "--json", &json, "--html", &html];
        let (code, output) = loadtest(&[&load[..], &files].concat()).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("send → receive"), "{output}");

        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let server = &report["processes"][0];
        assert!(server["cpu_seconds"].as_f64().unwrap() > 0.0, "{server:#}");
        assert!(
            server["rss_peak_bytes"].as_u64().unwrap() > 1_000_000,
            "{server:#}"
        );
        assert!(report["machine"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
        assert!(
            report["send_to_receive_us"]["curve"]
                .as_array()
                .unwrap()
                .len()
                > 5
        );

        let page = fs::read_to_string(&html).unwrap();
        assert_eq!(
            sections(&page),
            [
                "verdict",
                "figures",
                "latency",
                "time",
                "processes",
                "load",
                "machine"
            ]
        );
        assert!(page.contains("<svg") && page.contains("send → receive"));

        // What was written is all that there was: it gives the same page again.
        let again = at("again.html");
        let (code, output) = loadtest(&["compare", &json, "--html", &again]).await;
        assert_eq!(code, Some(0), "{output}");
        assert_eq!(fs::read_to_string(again).unwrap(), page);
        reports.push(json);
    }

    let (html, markdown) = (at("compared.html"), at("compared.md"));
    let reports = reports.iter().map(String::as_str);
    let flags = ["compare"].into_iter().chain(reports);
    let flags = flags.chain(["--html", &html, "--markdown", &markdown]);
    let (code, output) = loadtest(&flags.collect::<Vec<_>>()).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("cost over users"), "{output}");
    let page = fs::read_to_string(&html).unwrap();
    let expected = [
        "runs",
        "figures",
        "loads-and-machines-that-differ",
        "growth",
        "latency",
        "time",
    ];
    assert_eq!(sections(&page), expected);
    assert!(page.contains("linear (exponent 1)"));
    let markdown = fs::read_to_string(&markdown).unwrap();
    for row in [
        "| figure | A | B | B/A | C | C/A |",
        "| roomcast, CPU/delivery |",
    ] {
        assert!(markdown.contains(row), "{row} is not in {markdown}");
    }
}

#[tokio::test]
async fn what_is_no_report_is_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "{\"ok\": true}").unwrap();
    for path in [&file, Path::new("/nowhere/at/all.json")] {
        let path = path.to_str().unwrap();
        let (code, output) = loadtest(&["compare", path, path]).await;
        assert_eq!(code, Some(64), "{output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(path), "{output}");
    }
}
