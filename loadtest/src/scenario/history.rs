//! Compares every room's history with its ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::field::Field;
use crate::history;
use crate::report::History;
use crate::run::Run;

/// Histories that are read at one time.
const AT_ONCE: usize = 16;

/// Compares every room's history with its ledger, each at one of the gateways, for as long as `settle`.
pub(super) async fn compare(field: &Field, run: &Run, settle: Duration) -> History {
    let (target, house) = (&field.target, &field.house);
    let deadline = tokio::time::Instant::now() + settle;
    let mut readings = stream::iter((0..house.sizes.len()).map(|room| {
        let gateway = &target.gateways[room % target.gateways.len()];
        let name = house.room_name(room);
        let least = run.ledger(room).receipts();
        // Who is in a room may read it.
        let member = house.seats.iter().find(|seat| seat.room == room);
        let reader = member.map_or("", |seat| house.name(*seat));
        async move {
            let read = history::read(gateway, &target.pass, reader, &name, least, deadline);
            (room, read.await)
        }
    }))
    .buffer_unordered(AT_ONCE);

    let mut found = History {
        rooms: 0,
        messages: 0,
        unread: BTreeMap::new(),
    };
    while let Some((room, history)) = readings.next().await {
        match history {
            Ok(all) => {
                found.rooms += 1;
                found.messages += all.len() as u64;
                run.ledger(room).stored(all.iter().map(|stored| {
                    let origin = run.origin(Some(&stored.sender), stored.body.as_bytes());
                    let message = origin.filter(|(seat, _)| seat.room == room);
                    (
                        stored.id,
                        message.map(|(seat, stamp)| (seat.member, stamp.seq as usize)),
                    )
                }));
            }
            Err(error) => *found.unread.entry(error.to_string()).or_default() += 1,
        }
    }
    found
}
