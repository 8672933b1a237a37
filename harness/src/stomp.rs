//! A STOMP client that does what a test says, and holds the server to its promises about the
//! wire while it listens.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shared::stomp::{Command, DecodeError, Decoded, Decoder, Frame, Limits, Version, encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long each wait may take where the test does not say.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What a client says when it connects.
#[derive(Clone, Debug)]
pub struct StompOptions {
    /// `login` of CONNECT.
    pub login: Option<String>,
    /// `accept-version` of CONNECT; `None` leaves it out, which means 1.0.
    pub version: Option<String>,
    /// `heart-beat` of CONNECT, in milliseconds: what the client says that it can send, though it
    /// sends none by itself, and what it wants.
    pub heart_beat: (u32, u32),
    /// Offered in the upgrade.
    pub subprotocols: Vec<String>,
    /// `Origin` of the upgrade.
    pub origin: Option<String>,
    /// More headers of CONNECT.
    pub headers: Vec<(String, String)>,
    /// Whom to trust, for a `wss://` URL: see [`Authority::client`](crate::Authority::client).
    pub tls: Option<Arc<ClientConfig>>,
}

impl Default for StompOptions {
    fn default() -> Self {
        Self {
            login: None,
            version: Some("1.2".into()),
            heart_beat: (0, 0),
            subprotocols: vec!["v12.stomp".into()],
            origin: None,
            headers: Vec::new(),
            tls: None,
        }
    }
}

impl StompOptions {
    /// The defaults, with a user's name.
    pub fn login(user: &str) -> Self {
        Self {
            login: Some(user.into()),
            ..Self::default()
        }
    }
}

/// Why a step of the test did not come about.
#[derive(Debug, thiserror::Error)]
pub enum StompFailure {
    /// The upgrade was refused with this HTTP status.
    #[error("the upgrade was answered with status {0}")]
    Status(u16),
    /// The server closed, or the connection broke (no close code).
    #[error("the connection was closed with code {0:?}")]
    Closed(Option<u16>),
    /// What was waited for did not come in time.
    #[error("nothing came in time while waiting for {0}")]
    Deadline(String),
    /// Something else came than the test expected.
    #[error("wanted {wanted}, got {got:?}")]
    Unexpected {
        /// What the test expected.
        wanted: String,
        /// What came.
        got: Box<Frame>,
    },
    /// What came was no STOMP.
    #[error("the server sent what is no STOMP: {0}")]
    Decode(#[from] DecodeError),
    /// A WebSocket message that is neither one whole frame nor one line feed.
    #[error("a WebSocket message must be one frame or one line feed, not {0:?}")]
    NotOneFrame(Bytes),
    /// The WebSocket itself failed.
    #[error(transparent)]
    WebSocket(Box<tungstenite::Error>),
}

impl From<tungstenite::Error> for StompFailure {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => Self::Status(response.status().as_u16()),
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Io(_) => Self::Closed(None),
            other => Self::WebSocket(Box::new(other)),
        }
    }
}

/// What a connection runs on: TCP, or TLS on it.
trait Octets: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> Octets for S {}

/// One connection. Frames that a wait was not for stay queued for later waits, in order.
#[derive(Debug)]
pub struct StompClient {
    socket: WebSocketStream<Box<dyn Octets>>,
    subprotocol: Option<String>,
    version: Version,
    decoder: Decoder,
    queued: VecDeque<Frame>,
    beats: usize,
    /// Set once the connection has ended; the code where the server gave one.
    closed: Option<Option<u16>>,
}

impl StompClient {
    /// Upgrades, sends CONNECT and takes CONNECTED.
    ///
    /// # Errors
    /// [`StompFailure`], with the server's ERROR as what was unexpected when it refuses.
    pub async fn connect(url: &str, options: StompOptions) -> Result<Self, StompFailure> {
        let mut client = Self::upgrade(url, &options).await?;
        client.send_frame(connect_frame(&options)).await?;
        let connected = client.expect(Command::Connected).await?;
        let version = connected.header("version").and_then(Version::parse);
        client.version = version.ok_or_else(|| unexpected("a version in CONNECTED", connected))?;
        client.decoder.set_version(client.version);
        Ok(client)
    }

    /// Upgrades only; the test speaks STOMP itself from its first octet.
    ///
    /// # Errors
    /// [`StompFailure::Status`] when the upgrade is refused, and what the connection brings.
    pub async fn upgrade(url: &str, options: &StompOptions) -> Result<Self, StompFailure> {
        let uri: Uri = url.parse().expect("a test's URL is a URL");
        let authority = uri
            .authority()
            .expect("a test's URL names a host and a port");
        let address = authority.as_str().to_owned();
        let tls = (uri.scheme_str() == Some("wss")).then(|| {
            let config = options.tls.clone();
            let config = config.expect("a test says whom a wss:// URL trusts");
            let host = authority.host().trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(host).expect("a test's URL names a host");
            (TlsConnector::from(config), name)
        });
        let mut request = ClientRequestBuilder::new(uri);
        for subprotocol in &options.subprotocols {
            request = request.with_sub_protocol(subprotocol);
        }
        if let Some(origin) = &options.origin {
            request = request.with_header("Origin", origin);
        }
        let opened = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(tungstenite::Error::Io)?;
            stream.set_nodelay(true).map_err(tungstenite::Error::Io)?;
            let stream: Box<dyn Octets> = match tls {
                Some((connector, name)) => {
                    let secured = connector.connect(name, stream).await;
                    Box::new(secured.map_err(tungstenite::Error::Io)?)
                }
                None => Box::new(stream),
            };
            client_async(request, stream).await
        };
        let (socket, response) = tokio::time::timeout(DEADLINE, opened)
            .await
            .map_err(|_| StompFailure::Deadline("the upgrade".into()))??;
        let selected = response.headers().get("Sec-WebSocket-Protocol");
        let limits = Limits {
            frame_bytes: 64 << 20,
            ..Limits::default()
        };
        Ok(Self {
            socket,
            subprotocol: selected
                .and_then(|name| name.to_str().ok())
                .map(str::to_owned),
            version: Version::V1_2,
            decoder: Decoder::new(limits),
            queued: VecDeque::new(),
            beats: 0,
            closed: None,
        })
    }

    /// The subprotocol that the server selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The version that was negotiated.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends a frame as one WebSocket message: text, or binary when it is not UTF-8.
    ///
    /// # Errors
    /// [`StompFailure::Closed`] when the connection is gone.
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), StompFailure> {
        let octets = encode(&frame, self.version);
        let message = match str::from_utf8(&octets) {
            Ok(text) => Message::text(text),
            Err(_) => Message::Binary(octets),
        };
        self.send_raw(message).await
    }

    /// Sends a WebSocket message as it is.
    ///
    /// # Errors
    /// [`StompFailure::Closed`] when the connection is gone.
    pub async fn send_raw(&mut self, message: Message) -> Result<(), StompFailure> {
        tokio::time::timeout(DEADLINE, self.socket.send(message))
            .await
            .map_err(|_| StompFailure::Deadline("a send".into()))??;
        Ok(())
    }

    /// Subscribes, and waits until the server has confirmed it with a RECEIPT, which is returned.
    ///
    /// # Errors
    /// [`StompFailure`] as of [`receipt`](Self::receipt).
    pub async fn subscribe(
        &mut self,
        id: &str,
        destination: &str,
        headers: &[(&str, &str)],
    ) -> Result<Frame, StompFailure> {
        let receipt = format!("subscribed-{id}");
        let frame = Frame::new(Command::Subscribe)
            .with("id", id)
            .with("destination", destination);
        self.send_frame(with_all(frame, headers).with("receipt", &receipt))
            .await?;
        self.receipt(&receipt).await
    }

    /// Sends a message, and waits for nothing.
    ///
    /// # Errors
    /// [`StompFailure::Closed`] when the connection is gone.
    pub async fn send(
        &mut self,
        destination: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<(), StompFailure> {
        let frame = Frame::new(Command::Send).with("destination", destination);
        self.send_frame(with_all(frame, headers).with_body(body))
            .await
    }

    /// The next frame that has not been taken yet.
    ///
    /// # Errors
    /// [`StompFailure::Deadline`] when none comes in time, [`StompFailure::Closed`] when none can.
    pub async fn next_frame(&mut self, deadline: Duration) -> Result<Frame, StompFailure> {
        match self.queued.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read_frame("a frame", Instant::now() + deadline).await,
        }
    }

    /// The next frame, which must have this command.
    ///
    /// # Errors
    /// [`StompFailure::Unexpected`] when it has another one.
    pub async fn expect(&mut self, command: Command) -> Result<Frame, StompFailure> {
        let frame = match self.queued.pop_front() {
            Some(frame) => frame,
            None => {
                self.read_frame(command.as_str(), Instant::now() + DEADLINE)
                    .await?
            }
        };
        if frame.command != command {
            return Err(unexpected(command.as_str(), frame));
        }
        Ok(frame)
    }

    /// The RECEIPT with this id. What comes before it stays queued.
    ///
    /// # Errors
    /// [`StompFailure::Unexpected`] when an ERROR comes instead.
    pub async fn receipt(&mut self, id: &str) -> Result<Frame, StompFailure> {
        self.find(&format!("RECEIPT of {id}"), |frame| {
            frame.command == Command::Receipt && frame.header("receipt-id") == Some(id)
        })
        .await
    }

    /// The next MESSAGE. What comes before it stays queued.
    ///
    /// # Errors
    /// [`StompFailure::Unexpected`] when an ERROR comes instead.
    pub async fn message(&mut self) -> Result<Frame, StompFailure> {
        self.find("MESSAGE", |frame| frame.command == Command::Message)
            .await
    }

    /// Waits until this many heart-beats have come in all.
    ///
    /// # Errors
    /// [`StompFailure::Deadline`] when they do not.
    pub async fn wait_for_beats(&mut self, count: usize) -> Result<(), StompFailure> {
        let deadline = Instant::now() + DEADLINE;
        while self.beats < count {
            if let Some(frame) = self.read("a heart-beat", deadline).await? {
                self.queued.push_back(frame);
            }
        }
        Ok(())
    }

    /// The code with which the server closes; `None` when it ends the connection without one. What
    /// comes before stays queued.
    ///
    /// # Errors
    /// [`StompFailure::Deadline`] when it does not close in time.
    pub async fn close_code(&mut self) -> Result<Option<u16>, StompFailure> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.read("the close", deadline).await {
                Ok(Some(frame)) => self.queued.push_back(frame),
                Ok(None) => {}
                Err(StompFailure::Closed(code)) => return Ok(code),
                Err(other) => return Err(other),
            }
        }
    }

    async fn find(
        &mut self,
        wanted: &str,
        matches: impl Fn(&Frame) -> bool,
    ) -> Result<Frame, StompFailure> {
        if let Some(at) = self.queued.iter().position(&matches) {
            return Ok(self.queued.remove(at).expect("the position was just found"));
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let frame = self.read_frame(wanted, deadline).await?;
            if matches(&frame) {
                return Ok(frame);
            }
            if frame.command == Command::Error {
                return Err(unexpected(wanted, frame));
            }
            self.queued.push_back(frame);
        }
    }

    async fn read_frame(&mut self, wanted: &str, deadline: Instant) -> Result<Frame, StompFailure> {
        loop {
            if let Some(frame) = self.read(wanted, deadline).await? {
                return Ok(frame);
            }
        }
    }

    /// Reads one WebSocket message: a frame, or `None` for a heart-beat or a ping.
    async fn read(
        &mut self,
        wanted: &str,
        deadline: Instant,
    ) -> Result<Option<Frame>, StompFailure> {
        if let Some(code) = self.closed {
            return Err(StompFailure::Closed(code));
        }
        let message = timeout_at(deadline, self.socket.next())
            .await
            .map_err(|_| StompFailure::Deadline(wanted.to_owned()))?;
        let octets = match message.transpose().map_err(StompFailure::from) {
            Ok(Some(Message::Text(text))) => Bytes::from(text),
            Ok(Some(Message::Binary(octets))) => octets,
            Ok(Some(Message::Close(frame))) => {
                let code = frame.map(|CloseFrame { code, .. }| u16::from(code));
                self.closed = Some(code);
                // Answers the close; that the server may be gone by now is no failure.
                let _ = timeout_at(deadline, self.socket.flush()).await;
                return Err(StompFailure::Closed(code));
            }
            Ok(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(None),
            Ok(None) | Err(StompFailure::Closed(_)) => {
                self.closed = Some(None);
                return Err(StompFailure::Closed(None));
            }
            Err(other) => return Err(other),
        };
        if octets == "\n" {
            self.beats += 1;
            return Ok(None);
        }
        self.decoder.feed(&octets);
        match (self.decoder.next()?, self.decoder.buffered()) {
            (Some(Decoded::Frame(frame)), 0) => Ok(Some(frame)),
            _ => Err(StompFailure::NotOneFrame(octets)),
        }
    }
}

/// The CONNECT that the options describe.
pub fn connect_frame(options: &StompOptions) -> Frame {
    let mut frame = Frame::new(Command::Connect);
    if let Some(version) = &options.version {
        frame = frame.with("accept-version", version);
    }
    if let Some(login) = &options.login {
        frame = frame.with("login", login);
    }
    let (can, want) = options.heart_beat;
    frame = frame.with("heart-beat", &format!("{can},{want}"));
    let headers = options
        .headers
        .iter()
        .map(|(name, value)| (&name[..], &value[..]));
    with_all(frame, &headers.collect::<Vec<_>>())
}

fn with_all(frame: Frame, headers: &[(&str, &str)]) -> Frame {
    headers
        .iter()
        .fold(frame, |frame, (name, value)| frame.with(name, value))
}

fn unexpected(wanted: &str, got: Frame) -> StompFailure {
    StompFailure::Unexpected {
        wanted: wanted.into(),
        got: Box::new(got),
    }
}
