//! Finds out that everybody is subscribed, where no receipt says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::stomp::Command;
use tokio::time::sleep;

use crate::connection::ClientError;
use crate::field::{Ear, Field};
use crate::house::Seat;
use crate::wire::Glance;

/// How often it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a probe says: a body as no load has it, which each of them takes for that of another.
const BODY: &[u8] = b"0000000000000000000000000000000000000000";

/// Who has heard a message that is not counted.
#[derive(Debug)]
pub(crate) struct Probe {
    heard: Vec<AtomicBool>,
}

impl Probe {
    /// Sends a message in each room, again and again, until all of its members have heard one.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where somebody hears none in time.
    pub(crate) async fn confirm(field: &Field) -> Result<(), Failure> {
        let heard = field.house.seats.iter().map(|_| AtomicBool::new(false));
        let probe = Arc::new(Self {
            heard: heard.collect(),
        });
        field.tell(Arc::clone(&probe) as Arc<dyn Ear>);
        let deadline = Instant::now() + field.target.connect_timeout;
        let mut scratch = Vec::new();
        loop {
            let deaf = probe.heard.iter().zip(&field.house.seats);
            let deaf = deaf.filter(|(heard, _)| !heard.load(Ordering::Relaxed));
            let mut rooms = deaf.map(|(_, seat)| seat.room).collect::<Vec<_>>();
            if rooms.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let line = format!("{} members hear nothing of their rooms", rooms.len());
                return Err(Failure::Unavailable(line));
            }
            rooms.sort_unstable();
            rooms.dedup();
            for seat in &field.house.seats {
                if seat.member == 0 && rooms.binary_search(&seat.room).is_ok() {
                    probe.send(field, *seat, &mut scratch);
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn send(&self, field: &Field, seat: Seat, scratch: &mut Vec<u8>) {
        let (name, room) = (field.house.name(seat), field.house.room_name(seat.room));
        let mut frame = field.target.send_head(name, &room, None);
        frame.extend_from_slice(b"\n");
        frame.extend_from_slice(BODY);
        frame.push(0);
        if let Some(outlet) = field.outlet(seat) {
            // Whoever listens there meets the same error.
            let _ = outlet.send(&frame, scratch);
        }
    }
}

impl Ear for Probe {
    fn hear(&self, seat: Seat, glance: &Glance<'_>, _: Instant) -> Result<(), ClientError> {
        match glance.command {
            Command::Error => return Err(glance.refusal()),
            Command::Message => self.heard[seat.user as usize].store(true, Ordering::Relaxed),
            _ => {}
        }
        Ok(())
    }
}
