//! The services that the public test suite of SockJS's protocol expects, over the same endpoint
//! that carries STOMP: `/echo`, `/disabled_websocket_echo`, `/cookie_needed_echo` and `/close`.
//!
//! `cargo run -p gateway --example sockjs -- 127.0.0.1:8081`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::config::{AllowedOrigin, Origins};
use gateway::front::Stream;
use gateway::place::Place;
use gateway::session::output::Outgoing;
use gateway::sockjs::{Endpoint, Options};
use gateway::transport::{Incoming, Peer, Serve, Transport};
use http_body_util::{BodyExt, Empty};
use hyper::body::{self, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Octets after which a stream ends, as the suite expects it.
const STREAM_LIMIT: usize = 4096;

const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Sends back what comes.
struct Echo;

impl Serve for Echo {
    fn serve<T: Transport>(
        &self,
        transport: T,
        _peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        echo(transport)
    }
}

async fn echo(mut transport: impl Transport) {
    loop {
        match transport.next().await {
            Incoming::Data(octets) => {
                if transport.queue(Outgoing::Text(octets)).is_err() {
                    return;
                }
                if !transport.has_room() && transport.flush().await.is_err() {
                    return;
                }
            }
            Incoming::Alive | Incoming::Begun | Incoming::Flushed => {}
            Incoming::Closed | Incoming::TooLarge => break,
            // Broken JSON is to end the connection without a word.
            Incoming::Failed(_) => return,
        }
    }
    transport.close(1000, "Good bye.", CLOSE_DEADLINE).await;
}

/// Ends each session at once.
struct Close;

impl Serve for Close {
    fn serve<T: Transport>(
        &self,
        transport: T,
        _peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        transport.close(3000, "Go away!", CLOSE_DEADLINE)
    }
}

struct Services {
    echo: Arc<Endpoint<Echo>>,
    disabled_websocket_echo: Arc<Endpoint<Echo>>,
    cookie_needed_echo: Arc<Endpoint<Echo>>,
    close: Arc<Endpoint<Close>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:8081")).await?;
    let options = Options {
        origins: Origins(vec![AllowedOrigin::Any]),
        client_url: "/sockjs.js".parse()?,
        websocket: true,
        cookie_needed: false,
        stream_limit: STREAM_LIMIT,
        max_message_bytes: 1 << 20,
        max_body_bytes: 4 << 20,
        max_queued_bytes: 4 << 20,
        body_deadline: Duration::from_secs(10),
        patience: Duration::from_secs(10),
    };
    let slots = Arc::new(Semaphore::new(1000));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let echo = |options| {
        Endpoint::new(
            options,
            Arc::new(Echo),
            Arc::clone(&slots),
            Arc::default(),
            tasks.clone(),
            stop.clone(),
        )
    };
    let services = Arc::new(Services {
        echo: echo(options.clone()),
        disabled_websocket_echo: echo(Options {
            websocket: false,
            ..options.clone()
        }),
        cookie_needed_echo: echo(Options {
            cookie_needed: true,
            ..options.clone()
        }),
        close: Endpoint::new(
            options,
            Arc::new(Close),
            Arc::clone(&slots),
            Arc::default(),
            tasks.clone(),
            stop.clone(),
        ),
    });
    println!("http://{}/", listener.local_addr()?);
    loop {
        let (stream, address) = listener.accept().await?;
        let place = Place::new(Arc::clone(&slots).acquire_owned().await?);
        tokio::spawn(serve(Arc::clone(&services), stream, address, place));
    }
}

async fn serve(services: Arc<Services>, stream: TcpStream, address: SocketAddr, place: Arc<Place>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request: Request<body::Incoming>| {
        let (services, place) = (&services, &place);
        async move {
            let path = request.uri().path().to_owned();
            let path = path.strip_prefix('/').unwrap_or_default();
            let (name, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
            let peer = Peer {
                address,
                subprotocol: None,
                token: None,
            };
            Ok::<_, Infallible>(match name {
                "echo" => services.echo.answer(request, rest, peer, place).await,
                "disabled_websocket_echo" => {
                    let endpoint = &services.disabled_websocket_echo;
                    endpoint.answer(request, rest, peer, place).await
                }
                "cookie_needed_echo" => {
                    let endpoint = &services.cookie_needed_echo;
                    endpoint.answer(request, rest, peer, place).await
                }
                "close" => services.close.answer(request, rest, peer, place).await,
                _ => {
                    let mut answer = Response::new(Empty::<Bytes>::new().boxed_unsync());
                    *answer.status_mut() = StatusCode::NOT_FOUND;
                    answer
                }
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(Stream::Plain(stream)), service)
        .with_upgrades();
    tokio::select! {
        // Who goes while it is answered is none of our business.
        _ended = connection => {}
        () = place.until_cut() => {}
    }
}
