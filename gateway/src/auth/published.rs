//! Keys that an issuer publishes at a URL, and changes as it likes (RFC 7517, section 5; OpenID
//! Connect Core 1.0, section 10.1.1).
//!
//! One task reads them, so that clients who come and go neither start many readings nor end one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use shared::backoff::Backoff;
use shared::exit::Failure;
use shared::metrics::GatewayMetrics;
use shared::reload::Reload;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::AuthError;
use super::jwk::{self, Source};
use super::jwt::Signed;
use super::key::Key;
use super::schedule::Schedule;
use crate::config::AuthSettings;
use crate::fetch::{Bounds, Fetch, FetchError, Url};

/// What one reading may take.
const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(5),
    octets: 256 << 10,
};

/// The keys, as they were last read.
pub(super) struct Published {
    url: Url,
    fetch: Fetch,
    metrics: Arc<GatewayMetrics>,
    state: Mutex<State>,
    /// Somebody has a token whose key is unknown.
    wanted: Notify,
    /// Counts the attempts that have ended.
    attempts: watch::Sender<u64>,
}

struct State {
    keys: Arc<[Key]>,
    schedule: Schedule,
}

impl Published {
    /// Reads the keys, as often as it takes until `--connect-timeout`, and then keeps them fresh
    /// until `end`.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when they cannot be had.
    pub(super) async fn open(
        url: Url,
        settings: &AuthSettings,
        metrics: Arc<GatewayMetrics>,
        end: CancellationToken,
    ) -> Result<Arc<Self>, Failure> {
        let published = Arc::new(Self {
            url,
            fetch: Fetch::new(),
            metrics,
            state: Mutex::new(State {
                keys: [].into(),
                schedule: Schedule::new(settings.jwks_refresh),
            }),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        });
        let deadline = Instant::now() + settings.connect_timeout;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let reading = timeout_at(deadline.into(), published.read()).await;
            let late = || Err(FetchError::Late.to_string());
            let Err(reason) = reading.unwrap_or_else(|_| late()) else {
                break;
            };
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                let url = &published.url;
                return Err(Failure::Unavailable(format!(
                    "--jwt-jwks-url: the keys at {url} cannot be read: {reason}"
                )));
            }
            sleep(pause).await;
        }
        tokio::spawn(Arc::clone(&published).keep(end));
        Ok(published)
    }

    /// Whether one of the keys has signed this. For one whose key is unknown they are read anew
    /// where that is due; it takes as long as a reading at most.
    ///
    /// # Errors
    /// [`AuthError::Invalid`], or [`AuthError::Unavailable`] where fresher keys might say otherwise.
    pub(super) async fn check(&self, signed: &Signed<'_>) -> Result<(), AuthError> {
        // From before the keys are looked at, so that no attempt is missed.
        let mut attempts = self.attempts.subscribe();
        let keys = self.keys();
        if signed.is_signed_by(&keys) {
            return Ok(());
        }
        if signed.names_one_of(&keys) {
            return Err(AuthError::Invalid);
        }
        let may_ask = self.state().schedule.may_ask(Instant::now());
        if may_ask {
            self.wanted.notify_one();
        }
        if may_ask || self.state().schedule.is_asking() {
            // An attempt that takes longer than its own deadline is as good as a failed one.
            let _ = timeout(BOUNDS.deadline, attempts.changed()).await;
        }
        let keys = self.keys();
        if signed.is_signed_by(&keys) {
            Ok(())
        } else if keys.is_empty() || self.state().schedule.has_failed() {
            Err(AuthError::Unavailable)
        } else {
            Err(AuthError::Invalid)
        }
    }

    async fn keep(self: Arc<Self>, end: CancellationToken) {
        let mut reload = Reload::listen();
        loop {
            let due = self.state().schedule.due(Instant::now());
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep_until(due.into()) => {}
                () = reload.asked() => {}
                () = self.wanted.notified() => {
                    if !self.state().schedule.may_ask(Instant::now()) {
                        continue;
                    }
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                outcome = self.read() => match outcome {
                    Ok(()) => tracing::debug!(url = %self.url, "keys for tokens read"),
                    Err(reason) => tracing::warn!(
                        url = %self.url, reason, "keys for tokens cannot be read: old ones are kept"
                    ),
                }
            }
        }
    }

    /// Reads the keys once.
    async fn read(&self) -> Result<(), String> {
        self.state().schedule.begin(Instant::now());
        let keys = self.ask().await;
        let outcome = if keys.is_ok() { "ok" } else { "failed" };
        self.metrics
            .key_refreshes
            .with_label_values(&[outcome])
            .inc();
        let mut state = self.state();
        state.schedule.end(keys.is_ok());
        let outcome = keys.map(|keys| state.keys = keys.into());
        drop(state);
        self.attempts.send_modify(|attempts| *attempts += 1);
        outcome
    }

    async fn ask(&self) -> Result<Vec<Key>, String> {
        let answer = self.fetch.get(&self.url, BOUNDS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(format!("the answer has status {}", answer.status.as_u16()));
        }
        jwk::keys(&answer.body, Source::Published).map_err(|error| error.to_string())
    }

    /// The keys, as long as they count.
    fn keys(&self) -> Arc<[Key]> {
        let mut state = self.state();
        if state.schedule.is_stale(Instant::now()) {
            state.keys = [].into();
        }
        Arc::clone(&state.keys)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
