//! One user's connection: opened, subscribed, and then listened to.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use shared::stomp::{Command, heartbeat};
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;

use super::dial;
use super::glance::{Glance, Next};
use super::outlet::{Half, Outlet};
use super::websocket::{self, Head, Kind};
use crate::connection::ClientError;
use crate::pass::Octets;
use crate::target::Target;

/// Octets that one read takes at most.
const READ: usize = 64 << 10;

thread_local! {
    /// What all connections of a thread read into, one after the other.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A connection of a user.
#[derive(Debug)]
pub(crate) struct Link {
    half: Reading,
    outlet: Arc<Outlet>,
    wire: Wire,
    /// How often each side is to show that it lives: this one first.
    pub beats: (Option<Duration>, Option<Duration>),
}

#[derive(Debug)]
enum Reading {
    Plain(OwnedReadHalf),
    Secure(ReadHalf<Box<dyn Octets>>),
}

/// What has come and is not used up.
#[derive(Debug, Default)]
struct Wire {
    /// The part of a WebSocket frame that has come.
    socket: Vec<u8>,
    /// Octets that `socket` has to have before it is looked at again.
    needed: usize,
    /// The part of a STOMP frame whose WebSocket message has come.
    stomp: Vec<u8>,
}

impl Link {
    /// Connects `user` to a gateway of the target; when this returns, CONNECTED has come.
    ///
    /// # Errors
    /// [`ClientError`] of whichever step failed. There is no deadline here.
    pub(crate) async fn open(
        target: &Target,
        gateway: usize,
        user: &str,
    ) -> Result<Self, ClientError> {
        let gateway = &target.gateways[gateway % target.gateways.len()];
        let (stream, rest) = dial::dial(target, gateway).await?;
        let (half, outlet) = match stream {
            dial::Stream::Plain(stream) => {
                let (read, write) = stream.into_split();
                (Reading::Plain(read), Half::Plain(write))
            }
            dial::Stream::Secure(stream) => {
                let (read, write) = tokio::io::split(stream);
                (Reading::Secure(read), Half::Secure(write.into()))
            }
        };
        let mut link = Self {
            half,
            outlet: Arc::new(Outlet::new(outlet)),
            wire: Wire {
                socket: rest,
                ..Wire::default()
            },
            beats: (None, None),
        };
        link.outlet
            .send(&target.connect(gateway, user), &mut Vec::new())?;
        let server = link
            .confirmed(Command::Connected, |connected| {
                let header = connected.header("heart-beat");
                header.and_then(|it| heartbeat::parse_header(&it).ok())
            })
            .await?;
        let ms = target.beat_ms();
        // Negotiated as the server does it: what goes out there comes in here.
        let agreed = heartbeat::negotiate(server.unwrap_or((0, 0)), (ms, ms));
        link.beats = (agreed.incoming, agreed.outgoing);
        Ok(link)
    }

    /// Subscribes `user` to a room, from after a message where one is named, and waits for the receipt
    /// where the target gives any. Frames that come before it are `other`. Gives what the receipt says of
    /// `recovered`.
    ///
    /// # Errors
    /// [`ClientError`] where the receipt does not come. There is no deadline here.
    pub(crate) async fn subscribe(
        &mut self,
        target: &Target,
        user: &str,
        room: &str,
        after: Option<&str>,
        mut other: impl FnMut(&Glance<'_>, Instant),
    ) -> Result<Option<bool>, ClientError> {
        let frame = target.subscribe(user, room, after);
        self.outlet.send(&frame, &mut Vec::new())?;
        if !target.has_receipts() {
            return Ok(None);
        }
        self.listen(|glance, now| match glance.command {
            Command::Receipt => {
                let recovered = glance.header("recovered");
                Ok(Some(recovered.map(|recovered| recovered == "true")))
            }
            Command::Error => Err(glance.refusal()),
            _ => {
                other(glance, now);
                Ok(None)
            }
        })
        .await
    }

    /// Its way out.
    pub(crate) fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// Hands every frame to `hear`, with when it was read, until that gives something. Safe to cancel.
    ///
    /// # Errors
    /// [`ClientError`] where `hear` gives one, or the connection has ended.
    pub(crate) async fn listen<T>(
        &mut self,
        mut hear: impl FnMut(&Glance<'_>, Instant) -> Result<Option<T>, ClientError>,
    ) -> Result<T, ClientError> {
        // What an earlier caller left may hold frames.
        let now = Instant::now();
        if let Some(found) = self.wire.take(&[], &self.outlet, |it| hear(it, now))? {
            return Ok(found);
        }
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                loop {
                    let read = ready!(self.half.poll_read(cx, scratch))?;
                    if read == 0 {
                        return Poll::Ready(Err(ClientError::Closed(None)));
                    }
                    let now = Instant::now();
                    self.outlet.hear(now);
                    let octets = &scratch[..read];
                    let found = self.wire.take(octets, &self.outlet, |it| hear(it, now))?;
                    if let Some(found) = found {
                        return Poll::Ready(Ok(found));
                    }
                }
            })
        })
        .await
    }

    async fn confirmed<T>(
        &mut self,
        command: Command,
        mut read: impl FnMut(&Glance<'_>) -> T,
    ) -> Result<T, ClientError> {
        self.listen(|glance, _| match glance.command {
            Command::Error => Err(glance.refusal()),
            is if is == command => Ok(Some(read(glance))),
            _ => Ok(None),
        })
        .await
    }
}

impl Reading {
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        let read = match self {
            Self::Plain(half) => Pin::new(half).poll_read(cx, &mut buffer),
            Self::Secure(half) => Pin::new(half).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }
}

impl Wire {
    /// Takes octets in and hands over the frames that are whole, until `hear` gives something.
    fn take<T>(
        &mut self,
        octets: &[u8],
        outlet: &Arc<Outlet>,
        mut hear: impl FnMut(&Glance<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        if !self.stomp.is_empty() && octets.is_empty() {
            let kept = mem::take(&mut self.stomp);
            if let Some(found) = self.frames(&kept, &mut hear)? {
                return Ok(Some(found));
            }
        }
        if self.socket.is_empty() {
            return self.cut(octets, outlet, hear);
        }
        self.socket.extend_from_slice(octets);
        if self.socket.len() < self.needed {
            return Ok(None);
        }
        let kept = mem::take(&mut self.socket);
        self.cut(&kept, outlet, hear)
    }

    /// Cuts WebSocket frames off, and keeps what is not whole.
    fn cut<T>(
        &mut self,
        octets: &[u8],
        outlet: &Arc<Outlet>,
        mut hear: impl FnMut(&Glance<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let mut rest = octets;
        let mut found = None;
        self.needed = 0;
        while let Some(Head {
            kind,
            head,
            payload,
        }) = Head::parse(rest)?
        {
            if rest.len() < head + payload {
                self.needed = head + payload;
                break;
            }
            let (frame, after) = rest.split_at(head + payload);
            let payload = &frame[head..];
            rest = after;
            match kind {
                Kind::Data => found = self.message(payload, &mut hear)?,
                Kind::Ping => {
                    let mut pong = Vec::new();
                    websocket::pong(&mut pong, payload);
                    outlet.write(&pong)?;
                }
                Kind::Pong => {}
                Kind::Close => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Err(ClientError::Closed(code));
                }
            }
            if found.is_some() {
                break;
            }
        }
        self.socket.extend_from_slice(rest);
        Ok(found)
    }

    fn message<T>(
        &mut self,
        payload: &[u8],
        hear: &mut impl FnMut(&Glance<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        if self.stomp.is_empty() {
            return self.frames(payload, hear);
        }
        let mut kept = mem::take(&mut self.stomp);
        kept.extend_from_slice(payload);
        self.frames(&kept, hear)
    }

    fn frames<T>(
        &mut self,
        mut octets: &[u8],
        hear: &mut impl FnMut(&Glance<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let mut found = None;
        while found.is_none() {
            match Glance::next(octets)? {
                Next::Wait => break,
                Next::Beat(length) => octets = &octets[length..],
                Next::Frame(glance, length) => {
                    found = hear(&glance)?;
                    octets = &octets[length..];
                }
            }
        }
        self.stomp.extend_from_slice(octets);
        Ok(found)
    }
}
