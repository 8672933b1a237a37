//! Whether what the client says is what a client may say: then no ERROR is due to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gateway::config::Settings;
use shared::stomp::{Command, Frame};

/// What a well-mannered client keeps in mind. Where it is in doubt, a frame counts as bad manners.
pub(crate) struct Manners {
    settings: Arc<Settings>,
    /// Each subscription's id, and whether its messages are to be acknowledged.
    subscriptions: HashMap<String, bool>,
    /// The ids that have named more than one subscription.
    ended: HashSet<String>,
    /// How many frames each open transaction has.
    transactions: HashMap<String, usize>,
    transaction_bytes: usize,
    controls: usize,
    /// The subscription and the id of each MESSAGE.
    seen: HashSet<(String, String)>,
}

impl Manners {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            subscriptions: HashMap::new(),
            ended: HashSet::new(),
            transactions: HashMap::new(),
            transaction_bytes: 0,
            controls: 0,
            seen: HashSet::new(),
        }
    }

    /// A MESSAGE has come.
    pub(crate) fn message(&mut self, frame: &Frame) {
        let header = |name| frame.header(name).unwrap_or_default().to_owned();
        self.seen
            .insert((header("subscription"), header("message-id")));
    }

    /// Octets have come that may count as a control frame.
    pub(crate) fn may_flood(&mut self) -> bool {
        self.controls += 1;
        let burst = self
            .settings
            .control_rate
            .map_or(u32::MAX, |rate| rate.burst.get());
        self.controls >= burst as usize
    }

    /// Whether the frame is well-mannered after those before it; `is_first` where there are none.
    pub(crate) fn accept(&mut self, frame: &Frame, is_first: bool) -> bool {
        if self.may_flood() {
            return false;
        }
        let id = frame.header("id").unwrap_or_default().to_owned();
        match frame.command {
            Command::Connect | Command::Stomp => {
                is_first
                    && frame.header("heart-beat") != Some("x")
                    && frame.header("accept-version") != Some("2.0")
                    && frame.headers.len() <= 4
            }
            _ if is_first => false,
            Command::Send => {
                let rooms = ["/app/rooms/a", "/app/rooms/b", "/user/kim/queue/q"];
                frame
                    .header("destination")
                    .is_some_and(|to| rooms.contains(&to))
                    && frame.header("idempotency-key") != Some("")
                    && frame.header("receipt-after") != Some("soon")
                    && self.settings.send_rate.is_none()
                    && self.fits(frame)
            }
            Command::Subscribe => {
                let rooms = ["/topic/rooms/a", "/topic/rooms/b"];
                let acknowledged = frame.header("ack").is_some_and(|ack| ack != "auto");
                frame.header("id").is_some()
                    && frame.header("destination").is_some_and(|to| rooms.contains(&to))
                    && frame.header("history").is_none_or(|count| count.parse::<u8>().is_ok())
                    && frame.header("ack") != Some("maybe")
                    // What cannot be had of the past is an ERROR where no receipt can tell it.
                    && (frame.header("receipt").is_some()
                        || frame.header("history").or(frame.header("after")).is_none())
                    && self.subscriptions.len() < self.settings.max_subscriptions
                    && self.subscriptions.insert(id, acknowledged).is_none()
            }
            Command::Unsubscribe => {
                let known = self.subscriptions.remove(&id).is_some();
                self.ended.insert(id);
                known
            }
            Command::Ack | Command::Nack => {
                let named = frame.header("subscription").unwrap_or_default().to_owned();
                let message = frame.header("message-id").unwrap_or_default().to_owned();
                let in_time = match self.subscriptions.get(&named) {
                    Some(true) => {
                        !self.ended.contains(&named) && self.seen.contains(&(named, message))
                    }
                    Some(false) => true,
                    None => false,
                };
                in_time && self.fits(frame)
            }
            Command::Begin => {
                frame.header("transaction").is_some()
                    && self.transactions.len() < self.settings.max_transactions
                    && self.transactions.insert(transaction(frame), 0).is_none()
            }
            Command::Commit | Command::Abort => {
                self.transactions.remove(&transaction(frame)).is_some()
            }
            Command::Disconnect => true,
            Command::Connected | Command::Message | Command::Receipt | Command::Error => false,
        }
    }

    /// Whether the frame is in no transaction, or in one that is open and has room for it.
    fn fits(&mut self, frame: &Frame) -> bool {
        if frame.header("transaction").is_none() {
            return true;
        }
        self.transaction_bytes += frame.headers.text_len() + frame.body.len();
        let Some(frames) = self.transactions.get_mut(&transaction(frame)) else {
            return false;
        };
        *frames += 1;
        *frames <= self.settings.max_transaction_frames
            && self.transaction_bytes < self.settings.max_outbox_bytes / 2
    }
}

fn transaction(frame: &Frame) -> String {
    frame.header("transaction").unwrap_or_default().to_owned()
}
