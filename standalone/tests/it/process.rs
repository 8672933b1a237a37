//! The server as a process: how it starts, ends, and says what is wrong.

use harness::{StompClient, StompOptions};
use shared::stomp::Command;

use crate::fixture::{client, start};

#[tokio::test]
async fn what_was_receipted_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]).await;
    let mut kim = client(&server, "kim").await;
    let mut receipted = Vec::new();
    for number in 0..20 {
        let receipt = number.to_string();
        let headers = [("receipt", receipt.as_str())];
        kim.send("/app/rooms/r", format!("안녕 {number}"), &headers)
            .await
            .unwrap();
        let receipt = kim.receipt(&receipt).await.unwrap();
        receipted.push(receipt.header("message-id").unwrap().to_owned());
    }
    server.kill().await;

    let server = start(folder.path(), &[]).await;
    let mut lee = client(&server, "lee").await;
    lee.subscribe("s", "/topic/rooms/r", &[("history", "50")])
        .await
        .unwrap();
    for (number, id) in receipted.iter().enumerate() {
        let message = lee.message().await.unwrap();
        assert_eq!(message.header("message-id"), Some(id.as_str()));
        assert_eq!(message.header("sender"), Some("kim"));
        assert_eq!(message.body, format!("안녕 {number}"));
    }
}

#[tokio::test]
async fn what_is_being_stored_while_someone_subscribes_is_shown_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]).await;
    let mut kim = client(&server, "kim").await;
    let file = rusqlite::Connection::open(folder.path().join("messages.db")).unwrap();
    // Nothing can be stored while another has the file.
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..3 {
        kim.send("/app/rooms/r", number.to_string(), &[])
            .await
            .unwrap();
    }
    kim.subscribe("s", "/topic/rooms/r", &[("history", "50")])
        .await
        .unwrap();
    file.execute_batch("ROLLBACK").unwrap();
    for number in 0..3 {
        assert_eq!(kim.message().await.unwrap().body, number.to_string());
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(folder.path(), &[]).await;
    first.ready().await;
    let mut second = start(folder.path(), &[]).await;
    assert_eq!(second.wait().await.code(), Some(69));
    let output = second.output();
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains("another roomcast"), "{output}");
}

#[tokio::test]
async fn a_wrong_flag_is_one_line_and_64() {
    for (flags, says) in [
        (["--listen", "nowhere"], "--listen"),
        (["--broker", "amqp://host"], "redis://"),
        (["--store", "postgres://host/db"], "mongodb://"),
        (["--store", "mongodb://localhost"], "database"),
        (["--retention", "soon"], "--retention"),
        (["--nonsense", "1"], "--nonsense"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = start(folder.path(), &flags).await;
        assert_eq!(server.wait().await.code(), Some(64), "{flags:?}");
        let output = server.output();
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(says), "{flags:?}: {output}");
    }
}

#[tokio::test]
async fn clients_are_served_over_tls_and_files_that_cannot_be_used_end_it_with_64() {
    let authority = harness::Authority::new();
    let server = authority.certify("server", &["127.0.0.1"]);
    let (certificate, key) = (server.certificate.to_str(), server.key.to_str());
    let (certificate, key) = (certificate.unwrap(), key.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--tls-cert", certificate, "--tls-key", key];
    let running = start(folder.path(), &flags).await;
    let url = format!("wss://{}/ws", running.ready().await);
    let options = StompOptions {
        tls: Some(authority.client()),
        ..StompOptions::login("kim")
    };
    StompClient::connect(&url, options).await.unwrap();

    for (flags, hint) in [
        (&flags[..2], "--tls-key"),
        (&["--tls-cert", key, "--tls-key", key], "no certificate"),
        (&["--proxy-protocol"], "--trusted-proxy"),
        (&["--trusted-proxy", "proxy"], "10.0.0.0/8"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut refused = start(folder.path(), flags).await;
        assert_eq!(refused.wait().await.code(), Some(64), "{hint}");
        let said = refused.output();
        let line = said.lines().last().unwrap();
        assert!(
            line.starts_with("roomcast: ") && line.contains(hint),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_client_hears_heart_beats_and_is_sent_away_when_it_sends_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--heartbeat", "200ms"]).await;
    let url = format!("ws://{}/ws", server.ready().await);
    let options = StompOptions {
        heart_beat: (1000, 200),
        ..StompOptions::login("kim")
    };
    let mut kim = StompClient::connect(&url, options).await.unwrap();
    kim.wait_for_beats(1).await.unwrap();
    let error = kim.expect(Command::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("heart-beat-timeout"));
    assert_eq!(kim.close_code().await.unwrap(), Some(1008));
}

#[tokio::test]
async fn logs_are_one_json_object_a_line_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &["--log-format", "json"]).await;
    server.ready().await;
    server.terminate().await;
    assert_eq!(server.wait().await.code(), Some(0));
    let output = server.output();
    for line in output.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["timestamp", "level", "message"] {
            assert!(object[field].is_string(), "{field}: {line}");
        }
    }
    assert!(output.lines().count() > 2, "{output}");
}

#[tokio::test]
async fn a_term_signal_sends_clients_away_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]).await;
    let mut kim = client(&server, "kim").await;
    kim.send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    kim.receipt("1").await.unwrap();
    server.terminate().await;
    assert_eq!(kim.close_code().await.unwrap(), Some(1012));
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_stored_is_not_said_to_be_lost_when_time_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &["--drain-timeout", "100ms"]).await;
    let mut kim = client(&server, "kim").await;
    let headers = [("receipt", "1"), ("receipt-after", "stored")];
    kim.send("/app/rooms/r", "kept", &headers).await.unwrap();
    kim.receipt("1").await.unwrap();
    server.terminate().await;
    assert_eq!(server.wait().await.code(), Some(0));
    let output = server.output();
    assert!(output.contains("is stored"), "{output}");
    assert!(!output.contains("lost"), "{output}");
}
