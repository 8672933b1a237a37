//! Everything below one prefix.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Access, nothing, sentence, set_not_cached, wrong_method};
use super::envelope::Envelope;
use super::frame;
use super::page::{self, ClientUrl, Iframe};
use super::polled::Polled;
use super::receiver::Receiver;
use super::route::{Route, Sending};
use super::session::{ReceiveError, Session};
use super::websocket::Framed;
use crate::answer::{Answer, set, unavailable, with_body};
use crate::body::{BodyError, Budget, Terms};
use crate::config::{Origins, Settings};
use crate::guard::{Guard, TurnedAway};
use crate::handshake::{self, Refusal, SLACK};
use crate::place::Place;
use crate::transport::{Peer, Serve, TransportName};

/// Octets that the bodies of all requests to an endpoint may have together.
const BODIES: usize = 64 << 20;

/// How an endpoint behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The web pages that may connect.
    pub origins: Origins,
    /// Where the iframe page loads SockJS's client from.
    pub client_url: ClientUrl,
    /// Whether there are WebSockets.
    pub websocket: bool,
    /// Whether a load balancer needs the cookie `JSESSIONID`.
    pub cookie_needed: bool,
    /// Octets after which a stream ends and the client opens the next.
    pub stream_limit: usize,
    /// Octets of one message from a client.
    pub max_message_bytes: usize,
    /// Octets of what a client sends in one request, and of what may wait of it to be handled.
    pub max_body_bytes: usize,
    /// Octets that are queued between two flushes.
    pub max_queued_bytes: usize,
    /// How long a request's body may take to arrive.
    pub body_deadline: Duration,
    /// How long what it carries may then wait for what came before it.
    pub patience: Duration,
}

impl Options {
    /// What the flags say.
    pub fn new(settings: &Settings) -> Self {
        let max_message_bytes = settings.max_frame_bytes + SLACK;
        Self {
            origins: settings.origins.clone(),
            client_url: settings.sockjs_client_url.clone(),
            websocket: true,
            cookie_needed: false,
            stream_limit: 128 << 10,
            max_message_bytes,
            // Clients gather what is sent while a request is under way, and JSON's escapes may
            // double it; one message must fit whatever is escaped in it.
            max_body_bytes: (2 * settings.max_outbox_bytes).max(frame::GROWTH * max_message_bytes),
            max_queued_bytes: settings.max_outbox_bytes,
            body_deadline: settings.connect_deadline,
            patience: settings.write_timeout,
        }
    }
}

/// A SockJS endpoint, whose clients `C` serves.
pub struct Endpoint<C> {
    options: Options,
    iframe: Iframe,
    clients: Arc<C>,
    sessions: Mutex<HashMap<Box<str>, Arc<Session>>>,
    /// What is being sent in all requests together.
    bodies: Arc<Budget>,
    /// Each session takes one, as each connection does.
    slots: Arc<Semaphore>,
    guard: Arc<Guard>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<C: Serve> Endpoint<C> {
    /// An endpoint without sessions. Each will be a task of `tasks`, hold one of `slots` and count with
    /// its address as `guard` says; there are no new ones once `stop` is cancelled.
    pub fn new(
        options: Options,
        clients: Arc<C>,
        slots: Arc<Semaphore>,
        guard: Arc<Guard>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            iframe: Iframe::new(&options.client_url, &options.origins),
            bodies: Budget::new(BODIES.max(2 * options.max_body_bytes)),
            options,
            clients,
            sessions: Mutex::default(),
            slots,
            guard,
            tasks,
            stop,
        })
    }

    /// Answers a request whose path goes on with `rest` after the prefix. `peer` is who asks, on
    /// the connection that has this `place`.
    pub async fn answer<B>(
        self: &Arc<Self>,
        mut request: Request<B>,
        rest: &str,
        peer: Peer,
        place: &Arc<Place>,
    ) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let Some(route) = Route::parse(rest) else {
            return not_found();
        };
        let is_websocket = matches!(route, Route::WebSocket | Route::RawWebSocket);
        if is_websocket && !self.options.websocket {
            return not_found();
        }
        let is_preflight = route.has_preflight() && request.method() == Method::OPTIONS;
        if request.method() != route.method() && !is_preflight {
            return wrong_method(route.methods());
        }
        if is_websocket {
            return self.upgrade(&mut request, route, peer, place);
        }
        let Some(access) = Access::judge(&request, &self.options.origins) else {
            return Refusal::Origin.answer();
        };
        let query = request.uri().query().unwrap_or_default();
        let mut answer = match route {
            _ if is_preflight => access.preflight(route.methods()),
            Route::Info => page::info(self.options.websocket, self.options.cookie_needed),
            Route::Iframe => self.iframe.answer(request.headers()),
            Route::Receive(id, name) => match Envelope::new(name, query) {
                Ok(envelope) => self.stream(id, name, envelope, peer, place),
                Err(wrong) => sentence(StatusCode::INTERNAL_SERVER_ERROR, &wrong.to_string()),
            },
            Route::Send(id, sending) => self.take(request, id, sending, peer.address.ip()).await,
            Route::Greeting | Route::WebSocket | Route::RawWebSocket => page::greeting(),
        };
        access.set_cors(&mut answer);
        if self.options.cookie_needed && matches!(route, Route::Receive(..) | Route::Send(..)) {
            access.set_cookie(&mut answer);
        }
        answer
    }

    /// A stream of the session's frames; the session begins with it where there is none.
    fn stream(
        self: &Arc<Self>,
        id: &str,
        name: TransportName,
        envelope: Envelope,
        peer: Peer,
        place: &Arc<Place>,
    ) -> Answer {
        let session = match self.session(id, name, peer) {
            Ok(session) => session,
            Err(refusal) => return refusal.answer(),
        };
        let number = session.attach(Arc::clone(place));
        let content_type = envelope.content_type();
        let receiver = Receiver::new(session, number, envelope, self.options.stream_limit);
        let mut answer = Response::new(receiver.boxed_unsync());
        set(&mut answer, CONTENT_TYPE, content_type);
        set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
        // A proxy that gathers answers would never hand on one that does not end.
        let buffering = HeaderName::from_static("x-accel-buffering");
        answer
            .headers_mut()
            .insert(buffering, HeaderValue::from_static("no"));
        set_not_cached(&mut answer);
        answer
    }

    fn session(
        self: &Arc<Self>,
        id: &str,
        name: TransportName,
        peer: Peer,
    ) -> Result<Arc<Session>, NoSession> {
        let mut sessions = self.sessions();
        if let Some(session) = sessions.get(id) {
            return Ok(Arc::clone(session));
        }
        if self.stop.is_cancelled() {
            return Err(NoSession::Restart);
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| TurnedAway::Connections);
        let held = self.guard.has_memory().and(slot).and_then(|slot| {
            let seat = self.guard.connect(peer.address.ip())?;
            Ok((slot, seat))
        });
        let held = held.map_err(|away| {
            self.guard.turned_away(away);
            NoSession::Away(away)
        })?;
        let session = Arc::new(Session::new(self.options.max_body_bytes));
        sessions.insert(id.into(), Arc::clone(&session));
        drop(sessions);
        let transport = Polled::new(Arc::clone(&session), name, self.options.max_queued_bytes);
        let serving = self.clients.serve(transport, peer);
        let (endpoint, id, kept) = (Arc::clone(self), Box::from(id), Arc::clone(&session));
        self.tasks.spawn(async move {
            serving.await;
            kept.linger(&endpoint.stop).await;
            endpoint.sessions().remove::<Box<str>>(&id);
            drop(held);
        });
        Ok(session)
    }

    /// Takes what a client sends.
    async fn take<B>(
        &self,
        request: Request<B>,
        id: &str,
        sending: Sending,
        address: IpAddr,
    ) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let Some(session) = self.sessions().get(id).map(Arc::clone) else {
            return not_found();
        };
        let is_form = sending == Sending::Jsonp
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| {
                kind.as_bytes()
                    .starts_with(b"application/x-www-form-urlencoded")
            });
        let limit = self.options.max_body_bytes;
        let terms = Terms {
            address,
            party: self.guard.at(address),
            limit,
            deadline: self.options.body_deadline,
        };
        // What waits for room in the session goes on counting.
        let held = match self.bodies.read(request.into_body(), &terms).await {
            Ok(held) => held,
            Err(error) => {
                if matches!(error, BodyError::TooLarge { .. }) {
                    session.too_large();
                }
                return error.answer();
            }
        };
        let payload = if is_form {
            let field = form_urlencoded::parse(&held.octets).find(|(name, _)| name == "d");
            Cow::Owned(field.map_or_else(Vec::new, |(_, value)| value.into_owned().into()))
        } else {
            Cow::Borrowed(&held.octets[..])
        };
        if payload.is_empty() {
            return sentence(StatusCode::INTERNAL_SERVER_ERROR, "Payload expected.");
        }
        let mut messages = match frame::decode(&payload, false) {
            Ok(messages) => messages,
            Err(broken) => {
                return sentence(StatusCode::INTERNAL_SERVER_ERROR, &broken.to_string());
            }
        };
        let most = self.options.max_message_bytes;
        let too_large = messages.iter().position(|message| message.len() > most);
        messages.truncate(too_large.unwrap_or(messages.len()));
        match session.receive(messages, self.options.patience).await {
            Ok(()) => {}
            Err(error @ ReceiveError::Busy) => {
                return unavailable("overloaded", &error.to_string());
            }
            Err(ReceiveError::TooLarge) => {
                session.too_large();
                return BodyError::TooLarge { limit }.answer();
            }
        }
        if too_large.is_some() {
            // The client reads of it in its session, which an error here would end unread.
            session.too_large();
        }
        match sending {
            Sending::Xhr => nothing(),
            Sending::Jsonp => {
                let ok = Bytes::from_static(b"ok");
                let mut answer = with_body(StatusCode::OK, "text/plain; charset=UTF-8", ok);
                set_not_cached(&mut answer);
                answer
            }
        }
    }

    fn upgrade<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        route: Route<'_>,
        peer: Peer,
        place: &Arc<Place>,
    ) -> Answer {
        let grant = match handshake::check(request, &self.options.origins) {
            Ok(_) if self.stop.is_cancelled() => {
                return NoSession::Restart.answer();
            }
            Ok(grant) => grant,
            Err(Refusal::NoUpgrade) => {
                let text = "Can \"Upgrade\" only to \"WebSocket\".";
                return sentence(StatusCode::BAD_REQUEST, text);
            }
            Err(refusal) => return refusal.answer(),
        };
        let seat = match self.guard.upgrade(peer.address.ip(), place) {
            Ok(seat) => seat,
            Err(away) => return away.last_answer(),
        };
        let peer = Peer {
            subprotocol: grant.subprotocol,
            ..peer
        };
        let upgrade = hyper::upgrade::on(request);
        let (endpoint, place) = (Arc::clone(self), Arc::clone(place));
        let is_raw = route == Route::RawWebSocket;
        self.tasks.spawn(async move {
            let _place = (place, seat);
            let (name, growth) = if is_raw {
                (TransportName::RawWebSocket, 1)
            } else {
                (TransportName::SockJsWebSocket, frame::GROWTH)
            };
            let max_message_bytes = endpoint.options.max_message_bytes;
            let max_queued_bytes = endpoint.options.max_queued_bytes;
            let most = if is_raw {
                max_message_bytes
            } else {
                endpoint.options.max_body_bytes
            };
            let finished = handshake::finish(upgrade, name, most, max_queued_bytes * growth).await;
            let Some(socket) = finished else {
                tracing::debug!(address = %peer.address, "connection lost during its upgrade");
                return;
            };
            if is_raw {
                let serving = endpoint.clients.serve(socket, peer);
                drop(endpoint);
                serving.await;
            } else if let Ok(framed) = Framed::new(socket, max_message_bytes, most) {
                let serving = endpoint.clients.serve(framed, peer);
                drop(endpoint);
                serving.await;
            }
        });
        grant.answer()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoSession {
    #[error("This server is restarting.")]
    Restart,
    #[error(transparent)]
    Away(TurnedAway),
}

impl NoSession {
    fn answer(self) -> Answer {
        match self {
            Self::Restart => unavailable("restart", &self.to_string()),
            Self::Away(away) => away.answer(),
        }
    }
}

fn not_found() -> Answer {
    sentence(StatusCode::NOT_FOUND, "There is nothing at this path.")
}
