//! Sends clients away when the process is told to end: not all in one instant, in which they would
//! all come to the gateways that are left.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often clients are sent away, on average.
const BATCH_EVERY: Duration = Duration::from_millis(100);

/// The fewest that are sent away at a time: so many harm nobody, and few need not wait.
const BATCH: usize = 50;

/// When each client is sent away.
pub(crate) struct Drain {
    stop: CancellationToken,
    turns: Semaphore,
}

impl Drain {
    /// Nobody is sent away before `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            turns: Semaphore::new(0),
        }
    }

    /// Resolves when this client is to be sent away. One that cannot be served any more, because
    /// its next request would find nobody listening, does not wait for others.
    pub(crate) async fn until_turn(&self, is_served: bool) {
        self.stop.cancelled().await;
        if is_served && let Ok(turn) = self.turns.acquire().await {
            turn.forget();
        }
    }

    /// Whether clients are being sent away.
    pub(crate) fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Gives so many clients their turns, in batches with pauses of different lengths between
    /// them, within `spread` or little more; zero is at once. Whoever is left then has it too.
    pub(crate) async fn pace(&self, clients: usize, spread: Duration) {
        let batches = (spread.as_millis() / BATCH_EVERY.as_millis()) as usize;
        let batch = clients.div_ceil(batches.max(1)).max(BATCH);
        let mut left = clients;
        while left > batch {
            self.turns.add_permits(batch);
            left -= batch;
            sleep(BATCH_EVERY.mul_f64(0.5 + fastrand::f64())).await;
        }
        self.turns.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    /// When so many clients are told, since the stop.
    async fn told(clients: usize, spread: Duration) -> Vec<Duration> {
        let stop = CancellationToken::new();
        let drain = Arc::new(Drain::new(stop.clone()));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let drain = Arc::clone(&drain);
            tasks.spawn(async move {
                drain.until_turn(true).await;
                began.elapsed()
            });
        }
        stop.cancel();
        tokio::task::yield_now().await;
        drain.pace(clients, spread).await;
        let mut told = tasks.join_all().await;
        told.sort_unstable();
        told
    }

    #[tokio::test(start_paused = true)]
    async fn many_clients_are_sent_away_over_the_whole_spread_and_never_many_at_once() {
        let spread = Duration::from_secs(10);
        let told = told(5000, spread).await;
        assert_eq!(told.len(), 5000);
        assert!(told[4999] > spread / 2 && told[4999] < spread * 3 / 2);
        let pauses: Vec<_> = told.chunks(50).map(|batch| batch[49] - batch[0]).collect();
        assert!(pauses.iter().all(Duration::is_zero));
        for (first, second) in told.iter().zip(&told[50..]) {
            assert!(second > first, "more than 50 at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_clients_and_those_without_a_spread_need_not_wait() {
        for (clients, spread) in [(50, 10), (5000, 0)] {
            let told = told(clients, Duration::from_secs(spread)).await;
            assert!(told.iter().all(Duration::is_zero), "{clients}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_served_any_more_does_not_wait() {
        let stop = CancellationToken::new();
        let drain = Drain::new(stop.clone());
        stop.cancel();
        drain.until_turn(false).await;
    }
}
