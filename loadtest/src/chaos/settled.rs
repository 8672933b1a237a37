//! A load that has ended: what gateways and the store have of it, and the reckoning.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use shared::message::{MessageId, RoomName, Span, Stamp};
use shared::store::Store;
use tokio::time::{Instant, sleep};

use super::board::Board;
use super::debts::{Debts, Outcome};
use super::gateways::Gateways;
use crate::history;

/// Histories that are read at one time.
const AT_ONCE: usize = 16;

/// How long one reading of a history may take before another gateway is asked.
const READING: Duration = Duration::from_secs(10);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to listen, when the store has everything, for what it gets again.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Messages that are read from a store at one time.
const PAGE: usize = 1000;

/// How many debts are described in words.
const MAX_NOTES: usize = 20;

/// A message as a history has it: its id, and where it is known the sender's place and sequence.
type Known = (MessageId, Option<(usize, usize)>);

/// A load that has ended, and whose histories have not been read.
pub(crate) struct Settled {
    board: Arc<Board>,
    gateways: Gateways,
}

impl Settled {
    pub(super) fn new(board: Arc<Board>, gateways: Gateways) -> Self {
        Self { board, gateways }
    }

    /// Reads each room's history at one gateway or another, then in the store itself where it can be
    /// reached, and closes the ledger. A gateway's history has what Redis still knows, too; the store
    /// has to have all of it by itself. Each reading takes up to `patience`.
    pub(crate) async fn close(
        self,
        patience: Duration,
        store: impl Future<Output = Option<Result<Arc<dyn Store>, String>>>,
    ) -> Outcome {
        let board = &self.board;
        let mut outcome = Outcome::default();
        let end = Instant::now() + patience;
        let readings = stream::iter((0..board.rooms.len()).map(|room| self.shown(room, end)));
        let shown: Vec<_> = readings.buffered(AT_ONCE).collect().await;
        let stored = match store.await {
            Some(Ok(store)) => self.stored(&*store, patience).await.map(Some),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        };
        let stored = stored.unwrap_or_else(|error| {
            outcome.debts.unread += board.rooms.len() as u64;
            outcome.notes.push(format!("the store: {error}"));
            None
        });
        for (room, shown) in shown.into_iter().enumerate() {
            let ledger = &mut board.room(room).ledger;
            let stored = stored.as_ref().map(|rooms| &rooms[room]);
            if let Some(stored) = stored {
                ledger.stored(stored.iter().copied());
            }
            match shown {
                // The same debt is not counted twice.
                Ok(shown) if stored == Some(&shown) => {}
                Ok(shown) => ledger.stored(shown),
                Err(error) => {
                    outcome.debts.unread += 1;
                    let name = &board.rooms[room];
                    outcome.notes.push(format!("room {name}: {error}"));
                }
            }
            outcome.debts += Debts::from(ledger.close());
            outcome.sent += ledger.messages() as u64;
            outcome.receipted += ledger.receipts() as u64;
            outcome.told_missing += ledger.excused();
        }
        // The first of each room before the second of any: rooms seldom fail for the same reason.
        for at in 0.. {
            let rooms = (0..board.rooms.len()).filter_map(|room| {
                let note = board.room(room).ledger.notes().get(at)?.clone();
                Some(format!("room {}: {note}", board.rooms[room]))
            });
            let notes = rooms.collect::<Vec<_>>();
            if notes.is_empty() || outcome.notes.len() >= MAX_NOTES {
                break;
            }
            outcome.notes.extend(notes);
        }
        outcome.notes.truncate(MAX_NOTES);
        outcome.told = board.told();
        outcome.ends = board.ends();
        outcome
    }

    /// What gateways show of a room.
    async fn shown(&self, room: usize, end: Instant) -> Result<Vec<Known>, String> {
        let name = &self.board.rooms[room];
        let least = self.board.room(room).ledger.receipts();
        let (pass, reader) = (&self.gateways.pass, &self.board.names[0]);
        let mut asked = room;
        loop {
            let gateways = self.gateways.all();
            let Some(gateway) = gateways.get(asked % gateways.len().max(1)) else {
                return Err("there is no gateway to read the history from".to_owned());
            };
            let deadline = end.min(Instant::now() + READING);
            match history::read(gateway, pass, reader, name, least, deadline).await {
                Ok(all) => {
                    let known = all
                        .iter()
                        .map(|stored| self.known(room, stored.id, &stored.sender, &stored.body));
                    return Ok(known.collect());
                }
                Err(error) if Instant::now() >= end => return Err(error.to_string()),
                Err(_) => asked += 1,
            }
            sleep(PAUSE).await;
        }
    }

    /// What the store has of each room, once it has as much as there are receipts, and a little later:
    /// what is there twice may come late.
    async fn stored(
        &self,
        store: &dyn Store,
        patience: Duration,
    ) -> Result<Vec<Vec<Known>>, String> {
        let end = Instant::now() + patience;
        let mut is_whole = false;
        loop {
            let mut all = Vec::new();
            let mut missing = 0;
            for room in 0..self.board.rooms.len() {
                let read = loop {
                    match self.stored_of(store, room).await {
                        Ok(read) => break read,
                        Err(error) if Instant::now() >= end => return Err(error),
                        Err(_) => sleep(PAUSE).await,
                    }
                };
                let receipts = self.board.room(room).ledger.receipts();
                missing += receipts.saturating_sub(read.len());
                all.push(read);
            }
            if is_whole || Instant::now() >= end {
                return Ok(all);
            }
            is_whole = missing == 0;
            sleep(if is_whole { AFTERMATH } else { PAUSE }).await;
        }
    }

    async fn stored_of(&self, store: &dyn Store, room: usize) -> Result<Vec<Known>, String> {
        let name = RoomName::parse(&self.board.rooms[room])
            .expect("the load's rooms have names of letters, digits and hyphens");
        let mut all = Vec::new();
        let mut after = MessageId::new(Stamp { ms: 0, seq: 0 }, 0);
        loop {
            let page = store.history(&name, Span::After(after), PAGE).await;
            let page = page.map_err(|error| error.to_string())?;
            for message in &page {
                let body = String::from_utf8_lossy(&message.body);
                all.push(self.known(room, message.id, message.sender.as_str(), &body));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.id,
                _ => return Ok(all),
            }
        }
    }

    fn known(&self, room: usize, id: MessageId, sender: &str, body: &str) -> Known {
        let origin = self.board.origin(Some(sender), body.as_bytes());
        let message = origin.filter(|(seat, _)| seat.room == room);
        (
            id,
            message.map(|(seat, stamp)| (seat.member, stamp.seq as usize)),
        )
    }
}
