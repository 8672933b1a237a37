//! Waiting for a condition.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is yes.
///
/// # Panics
/// When it is not within [`DEADLINE`], naming `what` was waited for.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
