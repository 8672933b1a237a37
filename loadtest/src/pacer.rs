//! Sends messages when they are due, whatever has become of those before.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::body::Stamp;
use crate::config::ReceiptAfter;
use crate::crew;
use crate::field::Field;
use crate::run::Run;

/// The longest sleep, after which it is looked whether all is to end.
const NAP: Duration = Duration::from_millis(200);

/// Starts the thread that sends all of a load's messages, until all are sent or the load is hushed. It
/// ends with the CPU time that it took.
///
/// It sleeps on its own because a thread wakes within some 60 µs of the time asked for, while tokio's
/// timer counts whole milliseconds, which is as long as many a message takes. It writes to the sockets
/// itself, so that no listener has to wake for a message that leaves.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(
    field: &Arc<Field>,
    run: &Arc<Run>,
    receipt_after: Option<ReceiptAfter>,
) -> io::Result<JoinHandle<Duration>> {
    let (field, run) = (Arc::clone(field), Arc::clone(run));
    let thread = thread::Builder::new().name("pacer".into());
    thread.spawn(move || {
        pace(&field, &run, receipt_after);
        run.end();
        crew::used("thread-self").unwrap_or_default()
    })
}

fn pace(field: &Field, run: &Run, receipt_after: Option<ReceiptAfter>) {
    let heads = run.turns.iter().map(|seat| {
        let (name, room) = (field.house.name(*seat), field.house.room_name(seat.room));
        field.target.send_head(name, &room, receipt_after)
    });
    let heads = heads.collect::<Vec<_>>();
    let outlets = run.turns.iter().map(|seat| field.outlet(*seat));
    let mut outlets = outlets.collect::<Vec<_>>();
    let (mut frame, mut scratch) = (Vec::new(), Vec::new());
    for (seq, turn) in (0..).flat_map(|seq| (0..heads.len()).map(move |turn| (seq, turn))) {
        let Some(due) = run.schedule.due(turn, seq) else {
            return;
        };
        let late = loop {
            if run.hush.is_cancelled() {
                return;
            }
            let now = Instant::now();
            match now.checked_duration_since(run.start + due) {
                Some(late) => break late,
                None => thread::sleep((run.start + due - now).min(NAP)),
            }
        };
        let seat = run.turns[turn];
        let (Some(outlet), Ok(number)) = (&outlets[turn], u32::try_from(seq)) else {
            continue;
        };
        let stamp = Stamp {
            user: seat.user,
            seq: number,
            due,
        };
        frame.clear();
        frame.extend_from_slice(&heads[turn]);
        run.write(stamp, &mut frame);
        run.sent(seat, seq, due, late);
        if let Err(error) = outlet.send(&frame, &mut scratch) {
            // Whose connection has ended is noted by its listener; others are noted here.
            if matches!(error, crate::connection::ClientError::Unread) {
                field.note(error.to_string());
            }
            outlets[turn] = None;
        }
    }
}
