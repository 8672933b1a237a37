//! What happens next on a connection, and in which order it is looked at.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_util::stream::StreamExt;
use tokio::time::Sleep;

use super::{Answer, Connection};
use crate::close::CloseReason;
use crate::outbox::Delivery;
use crate::transport::{Incoming, Transport};

/// So many answers and deliveries may go before the socket is looked at.
const UNHEARD: u8 = 16;

/// What happens next.
pub(super) enum Turn {
    Incoming(Incoming),
    Delivery(Delivery),
    Answer(Answer),
    Cut(CloseReason),
    /// Something may be due.
    Alarm,
    OutOfTime,
    Drained,
}

impl<T: Transport> Connection<T> {
    /// Waits for what happens next.
    ///
    /// Answers and deliveries go first, because looking at the socket is dear; but the socket has its
    /// turn after some of them, however many there are.
    pub(super) async fn turn(
        &mut self,
        mut alarm: Pin<&mut Sleep>,
        mut drained: Pin<&mut impl Future<Output = ()>>,
        mut out_of_time: Pin<&mut impl Future<Output = ()>>,
    ) -> Turn {
        let is_closing = self.session.closing().is_some();
        let reads = self.session.wants_input();
        let Self {
            socket,
            deliveries,
            tasks,
            unheard,
            draining,
            told_by,
            gateway,
            ..
        } = self;
        let is_flushed = socket.is_flushed();
        // Only what is waited for is looked at, in the order of what it costs.
        let mut incoming = pin!((reads || !is_flushed).then(|| incoming(socket, reads)));
        let turn = poll_fn(|cx| {
            deliveries.awake();
            if *unheard < UNHEARD {
                if !tasks.is_empty()
                    && let Poll::Ready(Some(answer)) = tasks.poll_next_unpin(cx)
                {
                    *unheard += 1;
                    return Poll::Ready(Turn::Answer(answer));
                }
                if is_flushed && let Poll::Ready(delivery) = deliveries.poll_next(cx) {
                    *unheard += 1;
                    return Poll::Ready(Turn::Delivery(delivery));
                }
            }
            let is_passed_by = *unheard >= UNHEARD;
            *unheard = 0;
            if let Some(incoming) = incoming.as_mut().as_pin_mut()
                && let Poll::Ready(incoming) = incoming.poll(cx)
            {
                return Poll::Ready(Turn::Incoming(incoming));
            }
            if let Poll::Ready(reason) = deliveries.poll_cut(cx)
                && !is_closing
            {
                return Poll::Ready(Turn::Cut(reason));
            }
            if alarm.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::Alarm);
            }
            // Both wake this task once they have been looked at.
            let is_told = told_by.as_ref().is_some_and(|by| by.will_wake(cx.waker()));
            if !is_told || gateway.drain.has_begun() {
                *told_by = Some(cx.waker().clone());
                if out_of_time.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Turn::OutOfTime);
                }
                if !*draining && drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Turn::Drained);
                }
            }
            if is_passed_by {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        self.deliveries.awake();
        turn
    }
}

/// What comes from the socket, which is written to meanwhile; without `reads` it is only written.
async fn incoming(socket: &mut impl Transport, reads: bool) -> Incoming {
    if reads {
        return socket.next().await;
    }
    match socket.flush().await {
        Ok(()) => Incoming::Flushed,
        Err(_) => Incoming::Closed,
    }
}
