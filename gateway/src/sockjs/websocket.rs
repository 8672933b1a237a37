//! SockJS's frames on a WebSocket (protocol 0.3.3, section "WebSocket protocols").

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::frame;
use super::session::cost;
use crate::session::output::Outgoing;
use crate::transport::{Incoming, Transport, TransportError, TransportName};

/// How often the client is asked for a sign of life at most. Nothing answers SockJS's heart-beats,
/// nor STOMP's where the client sends none; every browser answers a ping.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A WebSocket whose messages are SockJS's frames.
pub(super) struct Framed<T> {
    socket: T,
    max_message_bytes: usize,
    most_inbound: usize,
    /// Messages of an array, of which the first has been handed on.
    rest: VecDeque<Bytes>,
    pinged: Instant,
}

impl<T: Transport> Framed<T> {
    /// Begins the session with its open frame. `max_message_bytes` bounds one message after it is
    /// decoded, `most_inbound` all of an array.
    pub(super) fn new(
        mut socket: T,
        max_message_bytes: usize,
        most_inbound: usize,
    ) -> Result<Self, TransportError> {
        socket.queue(Outgoing::Text(Bytes::from_static(frame::OPEN.as_bytes())))?;
        Ok(Self {
            socket,
            max_message_bytes,
            most_inbound,
            rest: VecDeque::new(),
            pinged: Instant::now(),
        })
    }
}

impl<T: Transport> Transport for Framed<T> {
    fn name(&self) -> TransportName {
        TransportName::SockJsWebSocket
    }

    async fn next(&mut self) -> Incoming {
        if self.rest.is_empty() {
            match self.socket.next().await {
                // Empty messages are ignored, and so are empty arrays: they end, and carry nothing.
                Incoming::Data(payload) if payload.is_empty() => return Incoming::Data(payload),
                Incoming::Data(payload) => match frame::decode(&payload, true) {
                    Ok(messages)
                        if messages.iter().map(cost).sum::<usize>() > self.most_inbound =>
                    {
                        return Incoming::TooLarge;
                    }
                    Ok(messages) => self.rest = messages.into(),
                    Err(broken) => return Incoming::Failed(broken.to_string()),
                },
                other => return other,
            }
        }
        match self.rest.pop_front() {
            Some(message) if message.len() > self.max_message_bytes => Incoming::TooLarge,
            Some(message) => Incoming::Data(message),
            None => Incoming::Data(Bytes::new()),
        }
    }

    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError> {
        let frame = match message {
            Outgoing::Text(octets) | Outgoing::Binary(octets) => frame::messages([&octets[..]]),
            Outgoing::Ping => frame::HEART_BEAT.to_owned(),
        };
        if self.pinged.elapsed() >= PING_INTERVAL {
            self.pinged = Instant::now();
            self.socket.queue(Outgoing::Ping)?;
        }
        self.socket.queue(Outgoing::Text(frame.into()))
    }

    fn is_flushed(&self) -> bool {
        self.socket.is_flushed()
    }

    fn has_room(&self) -> bool {
        self.socket.has_room()
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        self.socket.flush().await
    }

    /// Tells the client why by SockJS's last frame, then closes the WebSocket by the same code.
    async fn close(mut self, code: u16, reason: &str, deadline: Duration) {
        let end = frame::close(code, reason);
        // A full buffer cannot take it; the Close that follows says the same.
        let _ = self.socket.queue(Outgoing::Text(end.into()));
        self.socket.close(code, reason, deadline).await;
    }
}
