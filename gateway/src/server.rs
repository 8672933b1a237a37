//! The listener: accepts connections, answers HTTP, and hands WebSockets over.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Body;
use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::metrics::Metrics;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Gateway;
use crate::accept::{REFUSAL_RATE, REFUSALS, prepare};
use crate::answer::{Answer, error, set, unavailable};
use crate::api::{self, Api};
use crate::config::Settings;
use crate::entrance::Entrance;
use crate::front::Stream;
use crate::guard::Seat;
use crate::guard::bucket::Bucket;
use crate::handshake::{self, SLACK};
use crate::pages::Shelf;
pub use crate::pages::{Page, Pages};
use crate::past::Past;
use crate::place::Place;
use crate::sockjs::{Endpoint, Options};
use crate::transport::{Peer, Serve, TransportName};

/// Octets of a request's line and headers.
const HEAD: usize = 16 << 10;

/// How long a connection may be used for HTTP. Then what is being answered is finished, and a
/// client that has more to ask connects again.
const HTTP_LIFETIME: Duration = Duration::from_secs(120);

/// How long a connection may be used to be told that it is not served.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(2);

/// What answers on `--listen`: `/ws`, `/sockjs`, `/api/rooms/{room}/messages`, and pages where there
/// are any.
///
/// `clients` serves each client, in a task of its own.
pub struct Server<C> {
    settings: Arc<Settings>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) metrics: Metrics,
    api: Api,
    shelf: Shelf,
    clients: Arc<C>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) refusals: Arc<Semaphore>,
    pub(crate) refusal_rate: Mutex<Bucket>,
    sockjs: Arc<Endpoint<C>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<C: Serve> Server<C> {
    /// A server that runs everything as `tasks` and ends when `stop` is cancelled.
    pub fn new(
        settings: Arc<Settings>,
        entrance: Arc<Entrance>,
        metrics: Metrics,
        past: Arc<Past>,
        clients: C,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let clients = Arc::new(clients);
        let slots = Arc::clone(&entrance.guard.slots);
        let sockjs = Endpoint::new(
            Options::new(&settings),
            Arc::clone(&clients),
            Arc::clone(&slots),
            Arc::clone(&entrance.guard),
            tasks.clone(),
            stop.clone(),
        );
        Self {
            api: Api::new(Arc::clone(&settings), Arc::clone(&entrance), past),
            settings,
            entrance,
            metrics,
            shelf: Shelf::new(Pages(vec![api::DESCRIPTION])),
            clients,
            slots,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            refusal_rate: Mutex::new(Bucket::new(REFUSAL_RATE)),
            sockjs,
            tasks,
            stop,
        }
    }

    /// The same server, which shows these pages too.
    pub fn showing(self, mut pages: Pages) -> Self {
        pages.0.push(api::DESCRIPTION);
        Self {
            shelf: Shelf::new(pages),
            ..self
        }
    }

    /// The same server, which takes messages by POST too, for this gateway.
    pub(crate) fn publishing(self, gateway: Arc<Gateway>) -> Self {
        Self {
            api: self.api.publishing(gateway),
            ..self
        }
    }

    /// How many connections may be open, those included that are told that they may not.
    pub(crate) fn most_open(&self) -> usize {
        self.settings.max_connections.saturating_add(REFUSALS)
    }

    pub(crate) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
    ) {
        if let Err(reason) = prepare(&stream, self.settings.write_timeout) {
            tracing::debug!(%address, %reason, "connection lost before its first request");
            return;
        }
        let Some((stream, address, place)) = self.enter(stream, address, place).await else {
            return;
        };
        let place = Arc::new(place);
        let lifetime = if place.refusal.is_some() {
            REFUSAL_LIFETIME
        } else {
            HTTP_LIFETIME
        };
        let (asked, answering) = (AtomicBool::new(false), AtomicBool::new(false));
        let service = service_fn(|request| {
            let (server, place, answering) = (&self, &place, &answering);
            asked.store(true, Ordering::Relaxed);
            async move {
                answering.store(true, Ordering::Relaxed);
                let answer = server.answer(request, address, place).await;
                answering.store(false, Ordering::Relaxed);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.connect_deadline)
            .max_header_size(HEAD)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = place.until_cut() => return,
            () = async {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = sleep(lifetime) => {}
                }
            } => {
                connection.as_mut().graceful_shutdown();
                loop {
                    tokio::select! {
                        ended = connection.as_mut() => break ended,
                        () = place.until_cut() => return,
                        () = sleep(self.settings.write_timeout) => {
                            // An answer has deadlines of its own, and its client is owed it. A stream
                            // ends with its session, or where its client opens the next.
                            let is_owed = answering.load(Ordering::Relaxed) || place.is_streaming();
                            if !is_owed {
                                return;
                            }
                        }
                    }
                }
            }
        };
        if let Err(reason) = ended {
            let label = if reason.is_timeout() {
                "timeout"
            } else {
                "broken"
            };
            // Who has asked may fall silent, and go in the middle of a stream: every tab does so.
            if !asked.load(Ordering::Relaxed) || reason.is_parse() {
                let failures = &self.metrics.gateway.http_failures;
                failures.with_label_values(&[label]).inc();
            }
            tracing::debug!(%address, %reason, "HTTP connection failed");
        }
    }

    /// Takes what comes before the first request, all of it within the connect deadline. Gives the
    /// stream that requests come on, and where the client is.
    async fn enter(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        mut place: Place,
    ) -> Option<(Stream, SocketAddr, Place)> {
        let Entrance { front, guard, .. } = &*self.entrance;
        let deadline = Instant::now() + self.settings.connect_deadline;
        let failed = |address: SocketAddr, label: Option<&str>, reason: &dyn fmt::Display| {
            tracing::debug!(%address, %reason, "connection lost before its first request");
            if let Some(label) = label {
                let failures = &self.metrics.gateway.http_failures;
                failures.with_label_values(&[label]).inc();
            }
        };
        let address = match timeout_at(deadline, front.origin(&mut stream, peer)).await {
            Ok(Ok(address)) => address,
            Ok(Err(reason)) => {
                failed(peer, reason.label(), &reason);
                return None;
            }
            Err(late) => {
                failed(peer, Some("proxy"), &late);
                return None;
            }
        };
        // Before anything is computed for it. Where a proxy has not told where the client is, each of
        // its requests may.
        if place.is_uncounted() && !front.is_proxy(address.ip()) {
            match guard.connect(address.ip()) {
                Ok(seat) => place.seat = seat,
                Err(away) => place = place.refused(Some(self.refusal(away)?), away),
            }
        }
        match timeout_at(deadline, front.secure(stream)).await {
            Ok(Ok(stream)) => Some((stream, address, place)),
            Ok(Err(reason)) => {
                failed(address, reason.label(), &reason);
                None
            }
            Err(late) => {
                failed(address, Some("timeout"), &late);
                None
            }
        }
    }

    /// Answers one request.
    async fn answer<B>(
        self: &Arc<Self>,
        mut request: Request<B>,
        address: SocketAddr,
        place: &Arc<Place>,
    ) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let address = self.entrance.front.client(address, request.headers());
        let peer = Peer {
            address,
            subprotocol: None,
            token: self.entrance.auth.token(&request),
        };
        let guard = &self.entrance.guard;
        let answer = if let Some(away) = place.refusal {
            away.last_answer()
        } else if let Err(away) = guard.request(peer.address.ip()) {
            away.answer()
        } else if path == "/ws" {
            match handshake::check(&request, &self.settings.origins) {
                Ok(_) if self.stop.is_cancelled() => {
                    closing(unavailable("restart", "This server is restarting."))
                }
                Ok(grant) => match guard.upgrade(peer.address.ip(), place) {
                    Ok(seat) => {
                        let peer = Peer {
                            subprotocol: grant.subprotocol,
                            ..peer
                        };
                        self.upgrade(&mut request, peer, (Arc::clone(place), seat));
                        grant.answer()
                    }
                    Err(away) => away.last_answer(),
                },
                Err(refusal) => refusal.answer(),
            }
        } else if let Some(rest) = below("/sockjs", path) {
            self.sockjs.answer(request, rest, peer, place).await
        } else if let Some(room) = api::room_in(path) {
            self.api.answer(room, request, peer).await
        } else if let Some(page) = self.shelf.answer(path, &method, request.headers()) {
            page
        } else {
            error(
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing at this path.",
            )
        };
        let status = answer.status();
        let class = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.metrics
            .gateway
            .http_requests
            .with_label_values(&[class])
            .inc();
        tracing::debug!(%address, %method, path, status = status.as_u16(), "request");
        answer
    }

    /// Starts the connection's own task. Of the request nothing but the promise of the upgrade goes
    /// with it, so that what HTTP needed is given back.
    fn upgrade<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        peer: Peer,
        place: (Arc<Place>, Option<Seat>),
    ) {
        let upgrade = hyper::upgrade::on(request);
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let _place = place;
            let most = server.settings.max_frame_bytes + SLACK;
            let queued = server.settings.max_outbox_bytes;
            let name = TransportName::WebSocket;
            let Some(socket) = handshake::finish(upgrade, name, most, queued).await else {
                tracing::debug!(address = %peer.address, "connection lost during its upgrade");
                return;
            };
            let connection = server.clients.serve(socket, peer);
            drop(server);
            connection.await;
        });
    }
}

/// What follows a prefix in a path.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn closing(mut answer: Answer) -> Answer {
    set(&mut answer, CONNECTION, "close");
    answer
}
