//! What operators ask of a process over HTTP: `/metrics`, `/livez`, `/readyz`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::listen::bind;
use crate::metrics::Metrics;

/// The most connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// How long one connection may take from its first octet to its last.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long to wait when the system has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The named conditions under which a process wants work. Cloning shares them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

/// One condition, held by who knows whether it is met. It is not when this is dropped.
#[must_use = "the condition is unmet from when this is dropped"]
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// No condition: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, unmet until the latch is set. Each name is to be used once.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.conditions().insert(name, false);
        Latch {
            name,
            readiness: self.clone(),
        }
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.conditions().values().all(|met| *met)
    }

    /// The names of the conditions that are not met, sorted.
    pub fn unmet(&self) -> Vec<&'static str> {
        self.conditions()
            .iter()
            .filter(|(_, met)| !**met)
            .map(|(name, _)| *name)
            .collect()
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latch {
    /// Says whether the condition is met; a change is logged.
    pub fn set(&self, met: bool) {
        let before = self.readiness.conditions().insert(self.name, met);
        if before != Some(met) {
            tracing::info!(condition = self.name, met, "readiness changed");
        }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.conditions().insert(self.name, false);
    }
}

/// The admin server of a process, running.
pub struct Admin {
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Admin {
    /// Listens on `--admin-listen` and serves, as [`serve`] does, until [`Admin::stop`].
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when the address cannot be had.
    pub async fn start(
        address: SocketAddr,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, Failure> {
        let listener = bind("--admin-listen", address).await?;
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, metrics, readiness, stop.clone()));
        Ok(Self { stop, server })
    }

    /// Finishes what it has begun to answer.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the admin server failed");
        }
    }
}

/// Answers until `stop` is cancelled, and finishes what it has begun to answer: within 5 s,
/// because no connection may take longer. A connection serves one request.
///
/// `/livez` is 200; `/readyz` is 200 or, with the unmet conditions, 503; `/metrics` is Prometheus's
/// text format 0.0.4. Other paths are 404, other methods than GET and HEAD 405.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("admin server listens at http://{address}/");
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, metrics.clone(), readiness.clone()));
                }
                Err(reason) => {
                    tracing::warn!(%reason, "admin cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, metrics: Metrics, readiness: Readiness) {
    let service =
        service_fn(async |request| Ok::<_, Infallible>(answer(&request, &metrics, &readiness)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::debug!(%reason, "admin connection failed"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
}

fn answer<B>(
    request: &Request<B>,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/metrics" | "/livez" | "/readyz" if !readable => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.encode());
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        "/livez" => text(StatusCode::OK, "live\n"),
        "/readyz" => match readiness.unmet() {
            unmet if unmet.is_empty() => text(StatusCode::OK, "ready\n"),
            unmet => {
                let body = format!("not ready: {}\n", unmet.join(", "));
                text(StatusCode::SERVICE_UNAVAILABLE, body)
            }
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "only /metrics, /livez and /readyz are here\n",
        ),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
