//! What lies between a session and its client's octets: a WebSocket, or one of SockJS's ways
//! around it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::Token;
use crate::session::output::Outgoing;

/// One client's transport, driven by one task.
///
/// Reading never waits for writing: a client that does not read is still heard. Nothing has to be
/// written until [`next`](Self::next) or [`flush`](Self::flush) is awaited.
pub trait Transport: Send + 'static {
    /// Which one it is.
    fn name(&self) -> TransportName;

    /// Waits for what the client sends, and meanwhile writes what is queued. Nothing is lost when
    /// the future is dropped.
    fn next(&mut self) -> impl Future<Output = Incoming> + Send;

    /// Queues a message, whole.
    ///
    /// # Errors
    /// [`TransportError::Full`] when the bound of what may be pending is reached, which does not
    /// happen to who queues only while there [is room](Self::has_room).
    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError>;

    /// Whether everything queued has been handed on.
    fn is_flushed(&self) -> bool;

    /// Whether so little is pending that more should be queued.
    fn has_room(&self) -> bool;

    /// Writes everything queued. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`TransportError::Gone`] when the client is gone.
    fn flush(&mut self) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Ends the connection in order: writes what is queued, tells the client why, and lets it take
    /// that before anything is cut. All of it takes at most `deadline`.
    fn close(self, code: u16, reason: &str, deadline: Duration) -> impl Future<Output = ()> + Send;
}

/// Serves clients, whatever they speak through.
pub trait Serve: Send + Sync + 'static {
    /// Serves one client until either side ends it.
    fn serve<T: Transport>(
        &self,
        transport: T,
        peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the client is, as far as trusted proxies say.
    pub address: SocketAddr,
    /// The subprotocol that was selected. It does not bind the STOMP version: `accept-version`
    /// does.
    pub subprotocol: Option<&'static str>,
    /// What came with the request to prove who it is.
    pub token: Option<Token>,
}

/// What a client sent, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The payload of one message: octets of the STOMP stream.
    Data(Bytes),
    /// A message has begun whose end has not come. This is told once of a message.
    Begun,
    /// A sign of life without octets: the answer to [`Outgoing::Ping`], or the client's own ping.
    Alive,
    /// Everything queued has been written: there is room for more.
    Flushed,
    /// The client closed the connection, or is gone.
    Closed,
    /// A message is larger than allowed. Nothing can be read any more.
    TooLarge,
    /// The client broke the transport's protocol in this way. Nothing can be read any more.
    Failed(String),
}

/// Why a message cannot be queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The client reads too slowly: too much is pending.
    #[error("the write buffer is full")]
    Full,
    /// The connection is closing or gone.
    #[error("{0}")]
    Gone(String),
}

/// The transports that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportName {
    /// `/ws`.
    WebSocket,
    /// SockJS's frames on a WebSocket.
    SockJsWebSocket,
    /// `/sockjs/websocket`: a WebSocket like that of `/ws`.
    RawWebSocket,
    /// A request for each answer.
    Xhr,
    /// One long answer.
    XhrStreaming,
    /// Server-sent events.
    EventSource,
    /// Scripts in a page that never ends.
    HtmlFile,
    /// A script for each answer.
    Jsonp,
}

impl TransportName {
    /// The value of the metric label `transport`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::SockJsWebSocket => "sockjs-websocket",
            Self::RawWebSocket => "raw-websocket",
            Self::Xhr => "xhr",
            Self::XhrStreaming => "xhr-streaming",
            Self::EventSource => "eventsource",
            Self::HtmlFile => "htmlfile",
            Self::Jsonp => "jsonp",
        }
    }

    /// Whether the client comes and goes, in requests: what waits for it while it is away is not lost.
    pub const fn is_polled(self) -> bool {
        self.is_sockjs() && !matches!(self, Self::SockJsWebSocket)
    }

    /// Whether it carries SockJS's frames: text only, and heart-beats of its own.
    pub const fn is_sockjs(self) -> bool {
        !matches!(self, Self::WebSocket | Self::RawWebSocket)
    }
}
