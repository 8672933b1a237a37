//! What the client has asked for, and what it may therefore be told.

use std::collections::HashMap;
use std::sync::Arc;

use gateway::config::Settings;
use shared::message::{Draft, MessageId};
use shared::stomp::heartbeat::parse_header;
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version};

use super::manners::Manners;

/// The client's side of the session: every frame that reached the session, in order.
pub(crate) struct Client {
    decoder: Decoder,
    asked: Vec<Asked>,
    /// The SENDs that are to be published, in order, as places in `asked`.
    sends: Vec<usize>,
    /// How many of them the session has published.
    published: usize,
    /// The SUBSCRIBEs, in order.
    subscribes: Vec<usize>,
    /// What was asked for in transactions that are open.
    transactions: HashMap<String, Vec<usize>>,
    /// What has been acknowledged, and nobody has been told of.
    acknowledged: Vec<Acknowledged>,
    manners: Manners,
    /// Nothing that the client has sent is a reason for an ERROR.
    is_blameless: bool,
    /// Nothing after it counts: the client said DISCONNECT, or something that is no frame.
    over: bool,
}

/// A message that the client has acknowledged, and the subscription that it named.
pub(crate) struct Acknowledged {
    pub(crate) message: MessageId,
    pub(crate) subscription: Option<String>,
}

struct Asked {
    frame: Frame,
    /// Its RECEIPT has come.
    receipted: bool,
    /// A SEND's answer; a SUBSCRIBE's [`Outcome::Earned`].
    outcome: Option<Outcome>,
    /// The SENDs that a COMMIT has published.
    covers: Vec<usize>,
}

/// How what the client asked for has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The broker has accepted the message.
    Accepted(MessageId),
    /// The store has not had it in time.
    Withheld,
    /// The broker has not accepted it.
    Failed,
    /// The subscription is live.
    Earned,
    /// The subscription ended before it was live.
    Dropped,
}

/// What a RECEIPT was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipted {
    /// A SUBSCRIBE, by its number from 0.
    Subscribe(usize),
    Disconnect,
    Other,
}

impl Client {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        let limits = Limits {
            frame_bytes: settings.max_frame_bytes,
            ..Limits::default()
        };
        Self {
            decoder: Decoder::new(limits),
            asked: Vec::new(),
            sends: Vec::new(),
            published: 0,
            subscribes: Vec::new(),
            transactions: HashMap::new(),
            acknowledged: Vec::new(),
            manners: Manners::new(Arc::clone(settings)),
            is_blameless: true,
            over: false,
        }
    }

    /// The session has been handed these octets.
    pub(crate) fn sent(&mut self, octets: &[u8]) {
        if self.over {
            return;
        }
        if octets.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
            self.is_blameless &= !self.manners.may_flood();
        }
        self.decoder.feed(octets);
        while !self.over {
            match self.decoder.next() {
                Ok(Some(Decoded::Frame(frame))) => self.ask(frame),
                Ok(Some(Decoded::HeartBeat)) => {}
                Ok(None) => return,
                Err(_) => {
                    self.over = true;
                    self.is_blameless = false;
                }
            }
        }
    }

    fn ask(&mut self, frame: Frame) {
        let place = self.asked.len();
        self.is_blameless &= self.manners.accept(&frame, place == 0);
        let transaction = frame.header("transaction").map(str::to_owned);
        let mut covers = Vec::new();
        match (frame.command, transaction) {
            (Command::Connect | Command::Stomp, _) if place == 0 => {
                let offered = frame.header("accept-version").unwrap_or("1.0");
                match Version::highest(offered) {
                    Some(version) => self.decoder.set_version(version),
                    None => self.over = true,
                }
            }
            (Command::Send, None) => self.sends.push(place),
            (Command::Ack | Command::Nack, None) => self.acknowledge(&frame),
            (Command::Send | Command::Ack | Command::Nack, Some(name)) => {
                self.transactions.entry(name).or_default().push(place);
            }
            (Command::Begin, Some(name)) => drop(self.transactions.insert(name, Vec::new())),
            (Command::Commit, Some(name)) => {
                for place in self.transactions.remove(&name).unwrap_or_default() {
                    let asked = self.asked[place].frame.clone();
                    if asked.command == Command::Send {
                        covers.push(place);
                    } else {
                        self.acknowledge(&asked);
                    }
                }
                self.sends.extend(&covers);
            }
            (Command::Abort, Some(name)) => drop(self.transactions.remove(&name)),
            (Command::Subscribe, _) => self.subscribes.push(place),
            (Command::Disconnect, _) => self.over = true,
            _ => {}
        }
        self.asked.push(Asked {
            frame,
            receipted: false,
            outcome: None,
            covers,
        });
    }

    /// By any version's rules: the MESSAGE names its subscription in each of them.
    fn acknowledge(&mut self, frame: &Frame) {
        let by_id = frame.header("id").and_then(|id| id.split_once('/'));
        let (message, subscription) = match by_id {
            Some((message, subscription)) => (Some(message), Some(subscription)),
            None => (frame.header("message-id"), frame.header("subscription")),
        };
        if let Some(message) = message.and_then(|message| message.parse().ok()) {
            let subscription = subscription.map(str::to_owned);
            self.acknowledged.push(Acknowledged {
                message,
                subscription,
            });
        }
    }

    /// What has been acknowledged since the last time.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<Acknowledged> {
        std::mem::take(&mut self.acknowledged)
    }

    /// A MESSAGE has come.
    pub(crate) fn message(&mut self, frame: &Frame) {
        self.manners.message(frame);
    }

    /// Something else than what the client has sent may be a reason for an ERROR.
    pub(crate) fn excuse(&mut self) {
        self.is_blameless = false;
    }

    /// Whether it is in the middle of a frame, or of nothing more.
    pub(crate) fn is_between_frames(&self) -> bool {
        !self.over && self.decoder.buffered() == 0
    }

    /// What its CONNECT said of heart-beats.
    pub(crate) fn heart_beat(&self) -> (u32, u32) {
        let connect = self.asked.first().map(|asked| &asked.frame);
        let header = connect.and_then(|connect| connect.header("heart-beat"));
        header.map_or((0, 0), |header| {
            parse_header(header).expect("what was accepted")
        })
    }

    /// The session publishes: it must be what the client sent next. Returns which it is.
    pub(crate) fn publish(&mut self, draft: &Draft) -> usize {
        let place = *self
            .sends
            .get(self.published)
            .expect("nothing more was sent, or committed");
        self.published += 1;
        let sent = &self.asked[place].frame;
        assert_eq!(
            draft.body, sent.body,
            "messages are published in the order they were sent"
        );
        let key = draft.idempotency_key.as_ref().map(|key| key.as_str());
        assert_eq!(key, sent.header("idempotency-key"));
        let destination = sent
            .header("destination")
            .expect("a SEND without one is refused");
        assert!(destination.ends_with(draft.room.as_str()));
        let is_queue = destination.starts_with("/user/");
        let is_kept = match is_queue {
            true => sent.header("persist") == Some("true"),
            false => sent.header("ephemeral") != Some("true"),
        };
        assert_eq!(draft.ephemeral, !is_kept, "what is kept is what is to be");
        place
    }

    /// Whether a RECEIPT depends on this SEND.
    pub(crate) fn wants_receipt(&self, place: usize) -> bool {
        let covered = |asked: &Asked| {
            asked.covers.contains(&place) && asked.frame.header("receipt").is_some()
        };
        self.asked[place].frame.header("receipt").is_some() || self.asked.iter().any(covered)
    }

    /// What the `nth` SUBSCRIBE asked for, counted from 0.
    pub(crate) fn subscribe(&self, nth: usize) -> &Frame {
        let place = *self
            .subscribes
            .get(nth)
            .expect("nothing more was subscribed to");
        &self.asked[place].frame
    }

    /// How the `nth` SUBSCRIBE has ended, so far.
    pub(crate) fn subscribed(&mut self, nth: usize, outcome: Option<Outcome>) {
        self.asked[self.subscribes[nth]].outcome = outcome;
    }

    /// How a publish has ended.
    pub(crate) fn answered(&mut self, place: usize, outcome: Outcome) {
        self.asked[place].outcome = Some(outcome);
    }

    /// A RECEIPT has come: something asked for it, and has earned it, and has had none yet.
    /// Returns what that was.
    pub(crate) fn receipt(&mut self, receipt: &Frame) -> Receipted {
        let id = receipt.header("receipt-id").expect("every RECEIPT has one");
        let may_be = |place: &usize| {
            let asked = &self.asked[*place];
            !asked.receipted
                && asked.frame.header("receipt") == Some(id)
                && self.has_earned(asked, receipt)
        };
        // Of two that have the same id, an ACK in a transaction may have to wait for ever.
        let is_sure = |place: &usize| {
            let frame = &self.asked[*place].frame;
            !matches!(frame.command, Command::Ack | Command::Nack)
                || frame.header("transaction").is_none()
        };
        let mut places = (0..self.asked.len()).filter(may_be);
        let first = places.clone().find(is_sure).or_else(|| places.next());
        let place = first.unwrap_or_else(|| panic!("nothing has earned this RECEIPT: {receipt:?}"));
        self.asked[place].receipted = true;
        match self.asked[place].frame.command {
            Command::Subscribe => Receipted::Subscribe(
                self.subscribes
                    .binary_search(&place)
                    .expect("every SUBSCRIBE is there"),
            ),
            Command::Disconnect => Receipted::Disconnect,
            _ => Receipted::Other,
        }
    }

    fn has_earned(&self, asked: &Asked, receipt: &Frame) -> bool {
        let named = receipt.header("message-id");
        match asked.frame.command {
            Command::Send => match asked.outcome {
                Some(Outcome::Accepted(id)) => named == Some(id.to_string().as_str()),
                _ => false,
            },
            Command::Subscribe => {
                // One that ends while it reads the past is told that it does not have it.
                let is_given_up = receipt.header("recovered") == Some("false") && self.over;
                let ended = matches!(asked.outcome, Some(Outcome::Earned | Outcome::Dropped));
                (ended || is_given_up) && named.is_none()
            }
            Command::Commit => {
                named.is_none()
                    && asked.covers.iter().all(|place| {
                        let sent = &self.asked[*place];
                        matches!(sent.outcome, Some(Outcome::Accepted(_)))
                            && (sent.receipted || sent.frame.header("receipt").is_none())
                    })
            }
            Command::Connect | Command::Stomp => false,
            _ => named.is_none(),
        }
    }

    /// An ERROR has come: what it names has had no RECEIPT.
    pub(crate) fn error(&self, error: &Frame) {
        assert!(!self.is_blameless, "nothing is a reason for {error:?}");
        if let Some(id) = error.header("receipt-id") {
            let asked =
                |asked: &Asked| asked.frame.header("receipt") == Some(id) && !asked.receipted;
            let is_unfinished = self.decoder.receipt() == Some(id);
            assert!(
                is_unfinished || self.asked.iter().any(asked),
                "nothing waits for receipt {id}"
            );
        }
    }

    /// Everything has been answered, and the session goes on: the client has been told of
    /// everything that it wanted to be told of.
    pub(crate) fn check_complete(&self) {
        assert!(
            !self.over,
            "the session outlives DISCONNECT, or what is no frame"
        );
        assert_eq!(
            self.published,
            self.sends.len(),
            "messages have not been published"
        );
        for asked in &self.asked {
            let withheld = |place: &usize| self.asked[*place].outcome == Some(Outcome::Withheld);
            let may_lack = match asked.frame.command {
                Command::Connect | Command::Stomp => true,
                Command::Send => matches!(asked.outcome, Some(Outcome::Withheld) | None),
                // In a transaction that is open or aborted.
                Command::Ack | Command::Nack => asked.frame.header("transaction").is_some(),
                Command::Commit => asked.covers.iter().any(withheld),
                _ => false,
            };
            let wanted = asked.frame.header("receipt").is_some();
            assert!(
                asked.receipted || !wanted || may_lack,
                "this has had no RECEIPT: {:?} {:?}",
                asked.frame,
                asked.outcome
            );
        }
    }
}
