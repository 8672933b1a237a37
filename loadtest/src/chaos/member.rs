//! One member of a room: it keeps a connection, comes back when it ends, and sends again what has no
//! receipt. It knows only what came over the wire.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::message::{MessageId, Stamp as Clock};
use shared::stomp::{Command, Decoded, Frame};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::gateways::Gateways;
use super::load::LoadSettings;
use super::sends::Sends;
use crate::body::Stamp;
use crate::config::{GatewayUrl, ReceiptAfter};
use crate::connection::{ClientError, Connection};
use crate::house::Seat;

/// The receipt of SUBSCRIBE.
const SUBSCRIBED: &str = "subscribed";

/// How long SUBSCRIBE may take until the past has been sent.
const SUBSCRIBING: Duration = Duration::from_secs(30);

/// How long a socket may take nothing.
const WRITING: Duration = Duration::from_secs(5);

/// What the kernel may hold back from who reads slowly, in octets: little, so that the gateway notices.
const SLOW_BUFFER: u32 = 4096;

/// The phases that a load goes through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phases {
    /// Everybody has subscribed: messages are due from here on.
    pub sending: CancellationToken,
    /// Nothing new is sent any more.
    pub settling: CancellationToken,
    /// Everybody leaves.
    pub leaving: CancellationToken,
}

/// A member.
pub(crate) struct Member {
    /// Where it sits.
    pub seat: Seat,
    /// What it shares with the others.
    pub board: Arc<Board>,
    /// How it behaves.
    pub settings: Arc<LoadSettings>,
    /// Where it connects to.
    pub gateways: Gateways,
    /// Its own choices.
    pub rng: fastrand::Rng,
    /// How far the load is.
    pub phases: Phases,
    /// Its turn among the senders, where it is one.
    pub turn: Option<Duration>,
    /// How often each sender sends.
    pub every: Duration,
    /// Whether it sometimes does not read.
    pub is_slow: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("no gateway to connect to")]
    Nowhere,
    #[error("no connection")]
    Unconnected,
    #[error("not connected in time")]
    Opening,
    #[error("not subscribed in time")]
    Subscribing,
    #[error("silent")]
    Silent,
    #[error("nothing written")]
    Unwritten,
    #[error("{0}")]
    Refused(String),
    #[error("closed{}", .0.map(|code| format!(" with {code}")).unwrap_or_default())]
    Closed(Option<u16>),
    #[error("broken")]
    Broken,
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { code, message } => Self::Refused(code.unwrap_or(message)),
            ClientError::Closed(code) => Self::Closed(code),
            _ => Self::Broken,
        }
    }
}

/// What a member keeps over its connections.
#[derive(Default)]
struct Kept {
    /// The newest message that it has seen.
    newest: Option<MessageId>,
    /// Whether it has been subscribed once.
    is_back: bool,
    sends: Option<Sends>,
    failed: Option<GatewayUrl>,
}

/// A connection that stands.
struct Session {
    connection: Connection,
    /// How often we are to show that we live, and how often the gateway.
    beats: (Option<Duration>, Option<Duration>),
    heard: Instant,
    said: Instant,
    opened: Instant,
    /// What SUBSCRIBE asked for; `None` once it is confirmed.
    subscribing: Option<Option<MessageId>>,
    /// When a slow reader stops reading.
    stops: Option<Instant>,
}

impl Member {
    /// Lives until the load leaves.
    pub(crate) async fn run(mut self) {
        let leaving = self.phases.leaving.clone();
        let mut kept = Kept::default();
        let (min, max) = self.settings.pauses;
        let mut backoff = Backoff::new(min, max);
        loop {
            let mut confirmed = false;
            let end = tokio::select! {
                end = self.connected(&mut kept, &mut confirmed) => end,
                () = leaving.cancelled() => return,
            };
            let Err(end) = end else { return };
            self.board.ended(end.to_string());
            if confirmed {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = leaving.cancelled() => return,
            }
        }
    }

    /// Connects, and stays until the connection ends or the load leaves.
    async fn connected(&mut self, kept: &mut Kept, confirmed: &mut bool) -> Result<(), End> {
        let failed = kept.failed.as_ref();
        let Some(gateway) = self.gateways.choose(&mut self.rng, failed) else {
            return Err(End::Nowhere);
        };
        kept.failed = Some(gateway.clone());
        let name = &self.board.names[self.seat.user as usize];
        let opening = async {
            let pass = &self.gateways.pass;
            let buffer = self.is_slow.then_some(SLOW_BUFFER);
            let dialled = Connection::dial(&gateway, pass, buffer).await;
            let mut connection = dialled.map_err(|_| End::Unconnected)?;
            let beats = connection
                .connect(name, pass, self.settings.heart_beat)
                .await?;
            Ok::<_, End>((connection, beats))
        };
        let opened = timeout(self.settings.opening, opening).await;
        let (connection, beats) = opened.map_err(|_| End::Opening)??;
        let now = Instant::now();
        let mut session = Session {
            connection,
            beats,
            heard: now,
            said: now,
            opened: now,
            subscribing: None,
            stops: None,
        };
        self.subscribe(&mut session, kept)?;
        self.send_again(&mut session, kept, Duration::MAX)?;

        let sending = self.phases.sending.clone();
        let leaving = self.phases.leaving.clone();
        let mut timer = pin!(sleep_until(now.into()));
        loop {
            let wake = self.wake(&session, kept);
            // Going off early costs less than moving the timer at each frame.
            if timer.is_elapsed() || wake < timer.deadline().into_std() {
                timer.as_mut().reset(wake.into());
            }
            let started = async {
                match self.turn.is_some() && kept.sends.is_none() {
                    true => sending.cancelled().await,
                    false => pending().await,
                }
            };
            tokio::select! {
                decoded = session.connection.next() => {
                    session.heard = Instant::now();
                    if let Decoded::Frame(frame) = decoded? {
                        self.take(&frame, &mut session, kept)?;
                        *confirmed |= session.subscribing.is_none();
                    }
                }
                () = &mut timer => self.tick(&mut session, kept).await?,
                () = started => {
                    let first = self.board.now() + self.turn.unwrap_or_default();
                    kept.sends = Some(Sends::new(first, self.every, self.settings.stored));
                }
                () = leaving.cancelled() => {
                    session.connection.leave().await;
                    return Ok(());
                }
            }
        }
    }

    fn subscribe(&self, session: &mut Session, kept: &Kept) -> Result<(), End> {
        let mut frame = Frame::new(Command::Subscribe)
            .with("id", "0")
            .with(
                "destination",
                &format!("/topic/rooms/{}", self.board.rooms[self.seat.room]),
            )
            .with("receipt", SUBSCRIBED);
        let resumes = self.settings.resume && kept.is_back;
        if resumes {
            // Who has seen nothing yet comes back after what is older than everything.
            let oldest = MessageId::new(Clock { ms: 0, seq: 0 }, 0);
            let after = kept.newest.unwrap_or(oldest);
            frame = frame.with("after", &after.to_string());
        }
        session.subscribing = Some(kept.newest);
        session.connection.queue(&frame)?;
        Ok(())
    }

    /// Sends again what was asked for before `before` and has no receipt.
    fn send_again(
        &self,
        session: &mut Session,
        kept: &mut Kept,
        before: Duration,
    ) -> Result<(), End> {
        let now = self.board.now();
        if let Some(sends) = &mut kept.sends {
            for seq in sends.again(before, now) {
                self.send(session, sends, seq)?;
            }
        }
        Ok(())
    }

    fn send(&self, session: &mut Session, sends: &Sends, seq: u32) -> Result<(), End> {
        let number = seq.to_string();
        let receipt_after = match sends.is_stored(seq) {
            true => ReceiptAfter::Stored,
            false => ReceiptAfter::Accepted,
        };
        let mut frame = Frame::new(Command::Send)
            .with(
                "destination",
                &format!("/app/rooms/{}", self.board.rooms[self.seat.room]),
            )
            .with("content-type", "text/plain")
            .with("receipt", &number)
            .with("receipt-after", receipt_after.as_str());
        if self.settings.keys {
            frame = frame.with("idempotency-key", &number);
        }
        let body = self.board.bodies.write(Stamp {
            user: self.seat.user,
            seq,
            due: sends.due(seq),
        });
        self.board.sent(self.seat, seq);
        session.connection.queue(&frame.with_body(body))?;
        session.said = Instant::now();
        Ok(())
    }

    fn take(&self, frame: &Frame, session: &mut Session, kept: &mut Kept) -> Result<(), End> {
        let id = frame
            .header("message-id")
            .and_then(|id| id.parse::<MessageId>().ok());
        match (frame.command, frame.header("receipt-id")) {
            (Command::Message, _) => {
                let sender = frame.header("sender");
                let now = self.board.now();
                self.board
                    .delivered(self.seat, id, sender, &frame.body, now);
                kept.newest = kept.newest.max(id);
            }
            (Command::Receipt, Some(SUBSCRIBED)) => {
                let after = session.subscribing.take().flatten();
                let told = frame.header("recovered") == Some("false");
                self.board.subscribed(self.seat, after, told);
                kept.is_back = true;
                if self.is_slow
                    && let Some(slow) = &self.settings.slow_reader
                {
                    session.stops = Some(Instant::now() + slow.reads);
                }
            }
            (Command::Receipt, receipt) => {
                let seq = receipt.and_then(|seq| seq.parse::<u32>().ok());
                let (Some(seq), Some(sends)) = (seq, &mut kept.sends) else {
                    return Ok(());
                };
                sends.receipted(seq);
                let (due, is_stored) = (sends.due(seq), sends.is_stored(seq));
                let now = self.board.now();
                self.board
                    .receipted(self.seat, (seq, due), id, is_stored, now);
            }
            (Command::Error, _) => return Err(ClientError::refused(frame).into()),
            _ => {}
        }
        Ok(())
    }

    /// When there is something to do, if nothing comes before.
    fn wake(&self, session: &Session, kept: &Kept) -> Instant {
        let settling = self.phases.settling.is_cancelled();
        let sends = kept.sends.as_ref().and_then(|sends| match settling {
            true => sends.overdue(self.settings.receipt_patience),
            false => sends.wake(self.settings.receipt_patience),
        });
        let dues = [
            sends.map(|due| self.board.start + due),
            session.beat_due(),
            session.silent_at(),
            session.unwritten_at(),
            session.subscribing.map(|_| session.opened + SUBSCRIBING),
            session.stops,
        ];
        let far = Instant::now() + Duration::from_secs(60);
        dues.into_iter().flatten().min().unwrap_or(far)
    }

    /// Does what is due.
    async fn tick(&self, session: &mut Session, kept: &mut Kept) -> Result<(), End> {
        let now = Instant::now();
        if session.silent_at().is_some_and(|at| at <= now) {
            return Err(End::Silent);
        }
        if session.unwritten_at().is_some_and(|at| at <= now) {
            return Err(End::Unwritten);
        }
        if session.subscribing.is_some() && session.opened + SUBSCRIBING <= now {
            return Err(End::Subscribing);
        }
        if session.beat_due().is_some_and(|at| at <= now) {
            session.connection.beat()?;
            session.said = now;
        }
        let patience = self.settings.receipt_patience;
        if let Some(before) = self.board.now().checked_sub(patience) {
            self.send_again(session, kept, before)?;
        }
        if !self.phases.settling.is_cancelled()
            && let Some(sends) = &mut kept.sends
        {
            while let Some(seq) = sends.next_due(self.board.now()) {
                self.send(session, sends, seq)?;
            }
        }
        if session.stops.is_some_and(|at| at <= now) {
            self.stall(session).await?;
        }
        Ok(())
    }

    /// Reads nothing for a while, and shows all the same that it lives.
    async fn stall(&self, session: &mut Session) -> Result<(), End> {
        let Some(slow) = &self.settings.slow_reader else {
            return Ok(());
        };
        let until = Instant::now() + slow.stops;
        while Instant::now() < until && !self.phases.settling.is_cancelled() {
            session.connection.beat()?;
            session.said = Instant::now();
            let flushed = timeout(WRITING, session.connection.flush()).await;
            flushed.map_err(|_| End::Unwritten)??;
            let pause = session.beats.0.unwrap_or(WRITING).min(WRITING) / 2;
            let rest = until.saturating_duration_since(Instant::now());
            sleep(pause.min(rest)).await;
        }
        let now = Instant::now();
        session.heard = now;
        session.stops = Some(now + slow.reads);
        Ok(())
    }
}

impl Session {
    /// When a heart-beat of ours is due: a tenth before the agreed time, which covers timers.
    fn beat_due(&self) -> Option<Instant> {
        self.beats.0.map(|interval| self.said + interval * 9 / 10)
    }

    /// When a gateway that says nothing has gone: after two and a half times what was agreed.
    fn silent_at(&self) -> Option<Instant> {
        self.beats.1.map(|interval| self.heard + interval * 5 / 2)
    }

    fn unwritten_at(&self) -> Option<Instant> {
        let since = self.connection.unflushed_since()?;
        Some(since + WRITING)
    }
}
