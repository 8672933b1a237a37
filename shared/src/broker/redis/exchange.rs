//! Commands and their answers on one connection, one batch at a time.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Buf;
use redis::{RedisResult, Value};
use tokio::time::{Instant, Sleep, sleep};

use super::packed::Packed;
use super::resp;
use super::wire::Wire;

/// A connection for commands that is silent for a bounded time.
pub(super) struct Exchange {
    wire: Wire,
    timeout: Duration,
    /// Ends not later than the answer's time. It is set anew only when it has ended too early, which
    /// costs less than a timer for each command.
    alarm: Pin<Box<Sleep>>,
}

impl Exchange {
    /// Each batch has this time for all of its answers.
    pub(super) fn new(wire: Wire, timeout: Duration) -> Self {
        Self {
            wire,
            timeout,
            alarm: Box::pin(sleep(timeout)),
        }
    }

    /// Sends commands, and adds their answers to `answers` as they come.
    ///
    /// # Errors
    /// When the connection breaks or is silent for too long. It cannot be used any more then, and
    /// neither when this was not awaited to its end.
    pub(super) async fn batch(
        &mut self,
        commands: &Packed,
        answers: &mut Vec<Value>,
    ) -> RedisResult<()> {
        let Self {
            wire,
            timeout,
            alarm,
        } = self;
        let expected = answers.len() + commands.count();
        let deadline = Instant::now() + *timeout;
        let answered = async {
            wire.send(commands).await?;
            while answers.len() < expected {
                if let Some((value, length)) = resp::value(wire.incoming())? {
                    wire.incoming().advance(length);
                    answers.push(value);
                } else {
                    wire.receive().await?;
                }
            }
            Ok(())
        };
        let late = async {
            alarm.as_mut().await;
            while Instant::now() < deadline {
                alarm.as_mut().reset(deadline);
                alarm.as_mut().await;
            }
        };
        tokio::select! {
            biased;
            answered = answered => answered,
            () = late => Err(io::Error::new(io::ErrorKind::TimedOut, "there is no answer in time").into()),
        }
    }
}
