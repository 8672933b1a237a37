//! A server that is killed while it works.

use std::collections::BTreeMap;

use harness::StompClient;

use crate::fixture::{FILE, client, history, start};

/// Sends messages of these numbers, each under its own key, without waiting for a receipt.
async fn burst(client: &mut StompClient, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        let (receipt, key) = (number.to_string(), format!("key-{number}"));
        let headers = [("receipt", receipt.as_str()), ("idempotency-key", &key)];
        let body = format!("body {number}");
        client.send("/app/rooms/r", body, &headers).await.unwrap();
    }
}

/// Waits for the receipts of these numbers, and adds each one's id.
async fn receipts(
    client: &mut StompClient,
    numbers: impl IntoIterator<Item = usize>,
    ids: &mut BTreeMap<usize, String>,
) {
    for number in numbers {
        let receipt = client.receipt(&number.to_string()).await.unwrap();
        let id = receipt.header("message-id").unwrap().to_owned();
        let before = ids.insert(number, id.clone());
        assert!(before.is_none_or(|before| before == id), "{number} twice");
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_burst_loses_no_receipt_and_doubles_no_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]).await;
    let mut ids = BTreeMap::new();
    let mut next = 0;
    for round in 1..=3 {
        let mut kim = client(&server, "kim").await;
        // What the last server did not answer is sent again, in order, before anything new.
        let again = ids.len()..next;
        let new = next..next + 300;
        next = new.end;
        burst(&mut kim, again.clone().chain(new)).await;
        receipts(&mut kim, again.start..again.start + 100, &mut ids).await;
        server.kill().await;
        let log = folder.path().join(format!("{FILE}-wal"));
        assert!(log.metadata().unwrap().len() > 0, "round {round}");

        server = start(folder.path(), &[]).await;
        let found = history(&server, "r").await;
        for (number, id) in &ids {
            assert_eq!(found[*number], (id.clone(), format!("body {number}")));
        }
    }
    let mut kim = client(&server, "kim").await;
    let again = ids.len()..next;
    burst(&mut kim, again.clone()).await;
    receipts(&mut kim, again, &mut ids).await;
    let expected: Vec<_> = ids
        .into_iter()
        .map(|(number, id)| (id, format!("body {number}")))
        .collect();
    assert_eq!(history(&server, "r").await, expected);
}
