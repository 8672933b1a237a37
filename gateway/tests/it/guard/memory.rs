//! The memory that the process may have.

use super::shares::UPGRADE;
use super::{ask_from, turned_away};
use crate::running::backend;
use crate::serving::{answer, head};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_its_memory_a_gateway_serves_who_is_there_and_nobody_new() {
    let backend = backend(&[]).await;
    let roomy = backend.gateway(&["--max-memory", "1TiB"]).await;
    let mut wire = Wire::connected(&roomy, "1.2").await;
    harness::until("the memory to be measured", async || {
        roomy.metrics.gateway.memory_bytes.get() > 1 << 20
    })
    .await;
    wire.send("DISCONNECT\nreceipt:1\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    assert_eq!(turned_away(&roomy, "memory"), 0);

    // Any process has more than this.
    let flags = ["--max-memory", "1MiB", "--connect-deadline", "1h"];
    let full = backend.gateway(&flags).await;
    let mut there = None;
    harness::until("one to be let in", async || {
        let mut stream = ask_from(1, &full, UPGRADE).await;
        let status = head(&mut stream).await.status;
        there = Some(stream);
        status == 101
    })
    .await;
    let info = b"GET /sockjs/info HTTP/1.1\r\nHost: a\r\n\r\n";
    harness::until("the memory to be measured", async || {
        head(&mut ask_from(1, &full, info).await).await.status == 503
    })
    .await;
    let refused = answer(&mut ask_from(1, &full, info).await).await;
    assert_eq!((refused.status, &*refused.code()), (503, "overloaded"));
    assert!(refused.header("Retry-After").is_some());
    assert!(turned_away(&full, "memory") >= 2);
    assert!(full.readiness.is_ready(), "who is connected is served");

    // What those who have gone had is for others, though the process has no less.
    drop(there);
    harness::until("somebody new to be served", async || {
        head(&mut ask_from(1, &full, info).await).await.status == 200
    })
    .await;
}
