//! The transport of a session over HTTP, as its task sees it.

use std::sync::Arc;
use std::time::Duration;

use super::frame;
use super::session::{Event, Session};
use crate::session::output::Outgoing;
use crate::transport::{Incoming, Transport, TransportError, TransportName};
use crate::websocket::WRITE_BUFFER;

/// A session's only task holds this.
///
/// While nobody receives, what is queued counts as handed on as long as there is room for more: a
/// client between two polls is not a slow one. One that does not come back is gone after 5 s.
pub(super) struct Polled {
    session: Arc<Session>,
    name: TransportName,
    max_queued_bytes: usize,
    /// Something was queued since everything was last known to be taken.
    unflushed: bool,
    closed: bool,
}

impl Polled {
    /// The bound of what may be pending follows `max_queued_bytes`, the largest sum that is queued
    /// between two flushes.
    pub(super) fn new(session: Arc<Session>, name: TransportName, max_queued_bytes: usize) -> Self {
        Self {
            session,
            name,
            max_queued_bytes,
            unflushed: false,
            closed: false,
        }
    }
}

impl Transport for Polled {
    fn name(&self) -> TransportName {
        self.name
    }

    async fn next(&mut self) -> Incoming {
        match self.session.event(self.unflushed).await {
            Some(Event::Message(octets)) => Incoming::Data(octets),
            Some(Event::TooLarge) => Incoming::TooLarge,
            Some(Event::Alive) => Incoming::Alive,
            Some(Event::Gone) => Incoming::Closed,
            None => {
                self.unflushed = false;
                Incoming::Flushed
            }
        }
    }

    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError> {
        match message {
            Outgoing::Text(octets) | Outgoing::Binary(octets) => {
                if !self
                    .session
                    .queue(octets, WRITE_BUFFER + self.max_queued_bytes)
                {
                    return Err(TransportError::Full);
                }
            }
            Outgoing::Ping => self.session.queue_heart_beat(),
        }
        self.unflushed = true;
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        match self.session.pending() {
            Some((pending, receives)) => !receives && pending < WRITE_BUFFER,
            None => true,
        }
    }

    fn has_room(&self) -> bool {
        self.session
            .pending()
            .is_none_or(|(pending, _)| pending < WRITE_BUFFER)
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        if !self.session.flushed().await {
            return Err(TransportError::Gone("the session has expired".into()));
        }
        self.unflushed = false;
        Ok(())
    }

    /// Ends the session: whoever receives it gets what is queued and the reason, within `deadline`.
    /// Who comes for it later gets that for as long as an ended session is kept.
    async fn close(mut self, code: u16, reason: &str, deadline: Duration) {
        self.closed = true;
        let end = frame::close(code, reason);
        self.session.close(end, deadline).await;
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if !self.closed {
            self.session.abandon();
        }
    }
}
