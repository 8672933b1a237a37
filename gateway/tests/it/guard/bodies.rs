//! Who sends bodies and never ends them, or asks for them and never reads.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ask_from, turned_away};
use crate::posting::next;
use crate::running::backend;
use crate::serving::{answer, head};

const PATH: &str = "/api/rooms/r/messages";
const JSON: &str = "Content-Type: application/json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stall_do_not_starve_who_ends_them() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&["--connect-deadline", "20s"]).await;
    let large = json!({"body": "x".repeat(390_000)}).to_string();
    let large = gateway.request("POST", PATH, &[JSON], large.as_bytes());
    // More than all bodies together may have, from one address.
    let mut stalled = Vec::new();
    for _ in 0..200 {
        stalled.push(ask_from(1, &gateway, &large[..380_000]).await);
    }
    let small = json!({"body": "x".repeat(60_000)}).to_string();
    let small = gateway.request("POST", PATH, &[JSON], small.as_bytes());
    // And as many small ones as it takes until there is no room for it.
    harness::until("the address to have its share", async || {
        stalled.push(ask_from(1, &gateway, &large[..20_000]).await);
        next(&mut ask_from(1, &gateway, &small).await).await.status == 503
    })
    .await;
    for _ in 0..20 {
        let mut honest = ask_from(2, &gateway, &small).await;
        assert_eq!(next(&mut honest).await.status, 201);
    }
    // Those that were let in are given up, and told so.
    let mut told = 0;
    for stream in &mut stalled {
        let mut rest = String::new();
        if stream.read_to_string(&mut rest).await.is_ok() {
            told += usize::from(rest.contains("body-timeout") || rest.contains("overloaded"));
        }
    }
    assert_eq!(told, stalled.len());
}

#[tokio::test]
async fn the_octets_of_bodies_count_with_their_address() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&["--address-byte-rate", "10KiB"]).await;
    let message = json!({"body": "x".repeat(60_000)}).to_string();
    let message = gateway.request(
        "POST",
        PATH,
        &[JSON, "Connection: close"],
        message.as_bytes(),
    );
    // It passes, and has to be paid for before the next.
    assert_eq!(
        answer(&mut ask_from(1, &gateway, &message).await)
            .await
            .status,
        201
    );
    let refused = answer(&mut ask_from(1, &gateway, &message).await).await;
    assert_eq!((refused.status, &*refused.code()), (429, "rate-limited"));
    let after: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((2..=6).contains(&after), "{after}");
    assert_eq!(turned_away(&gateway, "rate"), 1);
    assert_eq!(
        answer(&mut ask_from(2, &gateway, &message).await)
            .await
            .status,
        201
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_nobody_reads_are_bounded_and_do_not_starve_who_reads() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let large = json!({"body": "x".repeat(60_000)}).to_string();
    let large = gateway.request("POST", PATH, &[JSON], large.as_bytes());
    let mut sender = ask_from(2, &gateway, &large).await;
    assert_eq!(next(&mut sender).await.status, 201);
    for _ in 1..200 {
        sender.write_all(&large).await.unwrap();
        assert_eq!(next(&mut sender).await.status, 201);
    }
    let page = gateway.request("GET", &format!("{PATH}?limit=200"), &[], b"");
    let mut unread = Vec::new();
    for status in [200, 200, 503] {
        let mut stream = ask_from(1, &gateway, &page).await;
        assert_eq!(head(&mut stream).await.status, status);
        unread.push(stream);
    }
    let mut honest = ask_from(2, &gateway, &page).await;
    assert_eq!(next(&mut honest).await.status, 200);

    // Who goes gives back what waited for it.
    drop(unread);
    harness::until("there to be room", async || {
        let mut stream = ask_from(1, &gateway, &page).await;
        head(&mut stream).await.status == 200
    })
    .await;
}
