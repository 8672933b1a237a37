//! Receipts, ERROR and the close.

use crate::running::backend;
use crate::wire::Wire;

#[tokio::test]
async fn the_receipt_of_disconnect_comes_last_before_the_close() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    wire.send("DISCONNECT\nreceipt:bye\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
    wire.expect_close(1000).await;
}
