//! One user: a connection that sends when its messages are due and reports what comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::message::MessageId;
use shared::stomp::{Command, Decoded, Frame};
use tokio::sync::Notify;

use crate::body::Stamp;
use crate::config::{GatewayUrl, ReceiptAfter};
use crate::connection::{ClientError, Connection};
use crate::pass::Pass;
use crate::run::{Run, Seat};

/// Connects as `user` and subscribes to `room`; when it returns, the gateway has confirmed both.
///
/// # Errors
/// [`ClientError`] of whichever step failed.
pub(crate) async fn open(
    gateway: &GatewayUrl,
    pass: &Pass,
    user: &str,
    room: &str,
) -> Result<Connection, ClientError> {
    let mut connection = Connection::dial(gateway, pass, None).await?;
    connection.connect(user, pass, Duration::ZERO).await?;
    connection.queue(
        &Frame::new(Command::Subscribe)
            .with("id", "0")
            .with("destination", &format!("/topic/rooms/{room}"))
            .with("receipt", "subscribed"),
    )?;
    connection.confirmed(Command::Receipt).await?;
    Ok(connection)
}

/// A user's part in the run.
pub(crate) struct User {
    /// Where it sits.
    pub seat: Seat,
    /// Its place in the order in which users take turns.
    pub turn: usize,
    /// How many of its messages have been sent.
    pub sent: usize,
    /// Raised by the pacer when a message is due.
    pub due: Arc<Notify>,
    /// Where it sends to.
    pub destination: String,
    /// What its receipts are to wait for.
    pub receipt_after: Option<ReceiptAfter>,
}

impl User {
    /// Sends and receives until the run stops.
    ///
    /// # Errors
    /// [`ClientError`] when the user was cut off before.
    pub(crate) async fn drive(
        mut self,
        mut connection: Connection,
        run: Arc<Run>,
    ) -> Result<(), ClientError> {
        let stop = run.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            tokio::select! {
                decoded = connection.next() => {
                    if let Decoded::Frame(frame) = decoded? {
                        self.take(&frame, &run, Instant::now())?;
                    }
                }
                () = self.due.notified() => {
                    while let Some(frame) = self.next_due(&run, Instant::now()) {
                        connection.queue(&frame)?;
                    }
                }
                () = &mut stopped => break,
            }
        }
        connection.leave().await;
        Ok(())
    }

    /// The SEND that is due, if one is.
    fn next_due(&mut self, run: &Run, now: Instant) -> Option<Frame> {
        if run.hush.is_cancelled() {
            return None;
        }
        let due = run.schedule.due(self.turn, self.sent)?;
        let late = now.checked_duration_since(run.start + due)?;
        let stamp = Stamp {
            user: self.seat.user,
            seq: u32::try_from(self.sent).ok()?,
            due,
        };
        let mut frame = Frame::new(Command::Send)
            .with("destination", &self.destination)
            .with("content-type", "text/plain")
            .with("receipt", &stamp.seq.to_string())
            .with("idempotency-key", &stamp.seq.to_string());
        if let Some(after) = self.receipt_after {
            frame = frame.with("receipt-after", after.as_str());
        }
        run.sent(self.seat, self.sent, due, late);
        self.sent += 1;
        Some(frame.with_body(run.bodies.write(stamp)))
    }

    fn take(&self, frame: &Frame, run: &Run, now: Instant) -> Result<(), ClientError> {
        let id = frame
            .header("message-id")
            .and_then(|id| id.parse::<MessageId>().ok());
        match frame.command {
            Command::Message => {
                run.delivered(self.seat, id, frame.header("sender"), &frame.body, now);
            }
            Command::Receipt => {
                let seq = frame.header("receipt-id").and_then(|id| id.parse().ok());
                run.receipted(self.seat, self.turn, seq, id, now);
            }
            Command::Error => return Err(ClientError::refused(frame)),
            _ => {}
        }
        Ok(())
    }
}

/// Wakes users when their messages are due, until all are or the run stops.
///
/// It waits on its own thread because a park there ends within some 60 µs of the time asked for,
/// while tokio's timer counts whole milliseconds, which is as long as many a message takes.
pub(crate) fn pace(run: &Run, turns: &[Arc<Notify>]) {
    for (round, turn) in (0..).flat_map(|round| (0..turns.len()).map(move |turn| (round, turn))) {
        let Some(due) = run.schedule.due(turn, round) else {
            return;
        };
        let at = run.start + due;
        loop {
            let wait = at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            if run.stop.is_cancelled() || run.hush.is_cancelled() {
                return;
            }
            std::thread::park_timeout(wait.min(Duration::from_secs(1)));
        }
        turns[turn].notify_one();
    }
}
