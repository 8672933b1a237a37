//! Who writes into names, paths and headers writes no line of the log.

use harness::{Process, Redis, binary};

use super::{answer_to, request};
use crate::wire::Wire;

/// What an attacker would like to stand in the log.
const FORGED: &str = "2026-01-01T00:00:00.000000Z  INFO gateway: forged";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_forges_a_line_of_the_log_or_steers_a_terminal() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    let url = redis.url();
    for format in ["text", "json"] {
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let urls = ["--broker", &url, "--store", &store, "--log-format", format];
        let args = [&ports[..], &urls].concat();
        let levels = [("RUST_LOG", "trace")];
        let process = Process::run(binary::path("gateway"), args, levels);
        let address = process.ready().await.to_string();
        let newline = FORGED.replace(' ', "%20");
        for steering in [
            "\n",
            "\r",
            "\r\n",
            "\u{1b}[2J",
            "\u{9b}2J",
            "\u{2028}",
            "\u{202e}",
            "\0",
            "\u{7f}",
            "\"",
        ] {
            for line in [
                format!("GET /{steering}{newline} HTTP/1.1"),
                format!("GET /api/rooms/{steering}{newline}/messages HTTP/1.1"),
                format!("GET /ws?{steering}{newline} HTTP/1.1"),
                format!("G{steering}ET /{newline} HTTP/1.1"),
                format!("GET /{newline} HTTP/1.1\r\nOrigin: {steering}{FORGED}"),
                format!("GET /{newline} HTTP/1.1\r\nUser-Agent: {steering}{FORGED}"),
                format!("GET /{newline} HTTP/1.1\r\nX{steering}{FORGED}: x"),
            ] {
                request(&address, &line, &[]).await;
            }
            let mut wire = Wire::open_at(&address).await;
            let text = format!("{steering}{FORGED}");
            wire.send(&format!(
                "CONNECT\naccept-version:1.2\nlogin:a{text}\nx{text}:{text}\n\n{text}\0"
            ))
            .await;
            wire.next().await;
            let mut wire = Wire::connected_at(&address, "1.2", "kim").await;
            let escaped = text
                .replace(':', "\\c")
                .replace('\n', "\\n")
                .replace('\r', "\\r");
            wire.send(&format!(
                "SEND\ndestination:/app/rooms/r{escaped}\nreceipt:{escaped}\n\n{text}\0"
            ))
            .await;
            wire.next().await;
        }
        answer_to(&address, format!("\n{FORGED}\n\n").as_bytes()).await;
        process.terminate().await;
        let mut process = process;
        process.wait().await;
        let output = process.output();
        assert!(output.lines().count() > 20, "{output}");
        for line in output.lines() {
            let is_ours = match format {
                "json" => serde_json::from_str::<serde_json::Value>(line).is_ok(),
                _ => line.starts_with("20") && !line.starts_with(FORGED),
            };
            assert!(is_ours, "{line:?}");
            let steers = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
            assert!(format == "json" || !line.contains(steers), "{line:?}");
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }
}
