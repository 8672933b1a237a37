//! Which ephemeral messages of this gateway's own clients are on their way to a room.
//!
//! They come over the live link only. While one is under way, what was sent after it must come that
//! way too, or would overtake it.

use std::time::Duration;

use tokio::time::Instant;

use shared::message::MessageId;

/// What is not heard in this time is lost, or of no use to anyone.
const LATE: Duration = Duration::from_secs(5);

/// The most that are remembered of a room.
const MOST: usize = 64;

/// The ephemeral messages that a room waits for.
#[derive(Default)]
pub(crate) struct Whispers(Option<Box<UnderWay>>);

struct UnderWay {
    /// When the last one was published.
    since: Instant,
    /// Publishes without an answer.
    asked: usize,
    /// What was heard meanwhile: an answer may come after that.
    heard: Vec<MessageId>,
    /// Accepted, and not heard yet.
    unheard: Vec<MessageId>,
}

impl Whispers {
    /// One is published.
    pub(crate) fn publish(&mut self) {
        let now = Instant::now();
        let way = self.0.get_or_insert_with(|| {
            Box::new(UnderWay {
                since: now,
                asked: 0,
                heard: Vec::new(),
                unheard: Vec::new(),
            })
        });
        way.since = now;
        way.asked += 1;
    }

    /// A publish has its answer: the id, where it was accepted.
    pub(crate) fn answered(&mut self, id: Option<MessageId>) {
        let Some(way) = &mut self.0 else {
            return;
        };
        way.asked = way.asked.saturating_sub(1);
        if let Some(id) = id {
            match way.heard.iter().position(|heard| *heard == id) {
                Some(at) => drop(way.heard.swap_remove(at)),
                None if way.unheard.len() < MOST => way.unheard.push(id),
                None => {}
            }
        }
        self.settle();
    }

    /// One has come, whoever published it.
    pub(crate) fn hear(&mut self, id: MessageId) {
        let Some(way) = &mut self.0 else {
            return;
        };
        match way.unheard.iter().position(|unheard| *unheard == id) {
            Some(at) => drop(way.unheard.swap_remove(at)),
            None if way.heard.len() < MOST => way.heard.push(id),
            None => {}
        }
        self.settle();
    }

    /// Whether none is under way.
    pub(crate) fn are_over(&mut self) -> bool {
        if self
            .0
            .as_ref()
            .is_some_and(|way| way.since.elapsed() > LATE)
        {
            self.0 = None;
        }
        self.0.is_none()
    }

    fn settle(&mut self) {
        self.0
            .take_if(|way| way.asked == 0 && way.unheard.is_empty());
    }
}
