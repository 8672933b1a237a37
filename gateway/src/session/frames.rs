//! What each client frame does (STOMP 1.2, section "Client Frames").

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use shared::message::{Draft, IdempotencyKey, InvalidName, MessageId, RoomName};
use shared::stomp::{Command, Frame, Version};

use super::message::is_forwarded;
use super::output::{Address, Output, Slot};
use super::permit::Permit;
use super::publication::Publication;
use super::subscription::{Past, Subscription};
use super::transaction::Work;
use super::window::{AckMode, Window};
use super::{Session, State};
use crate::access::Action;
use crate::close::CloseReason;
use crate::config::ReceiptAfter;
use crate::guard::Claim;

/// Why a frame is refused.
pub(super) struct Refusal(pub(super) CloseReason, pub(super) String);

/// Whether a frame has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// It has.
    Done,
    /// It is to be handled again when there is an answer to what was asked.
    Waits,
}

impl Session {
    pub(super) fn handle(&mut self, now: Instant, frame: &Frame) -> Handled {
        let opening = match self.state {
            State::Opening { deadline, .. } => Some(deadline),
            _ => None,
        };
        if let (Command::Connect | Command::Stomp, Some(deadline)) = (frame.command, opening) {
            self.connect(now, deadline, frame);
            return Handled::Done;
        }
        let handled = match frame.command {
            _ if opening.is_some() => {
                refuse(CloseReason::NotConnected, "the first frame must be CONNECT")
            }
            Command::Connect | Command::Stomp => refuse(
                CloseReason::AlreadyConnected,
                "this session is connected already",
            ),
            Command::Send => self.send(now, frame),
            Command::Subscribe => self.subscribe(now, frame),
            Command::Unsubscribe => self.unsubscribe(frame).map(done),
            Command::Disconnect => {
                for mut subscription in std::mem::take(&mut self.subscriptions) {
                    self.end_attaching(&mut subscription);
                }
                let receipt = frame.header("receipt").map(str::to_owned);
                self.state = State::Leaving { receipt };
                self.finish_if_idle();
                return Handled::Done;
            }
            Command::Ack | Command::Nack => self.ack(frame).map(done),
            Command::Begin => self.begin(frame).map(done),
            Command::Commit => self.commit(now, frame),
            Command::Abort => self.abort(frame).map(done),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                refuse(CloseReason::ProtocolError, "only a server sends this frame")
            }
        };
        handled.unwrap_or_else(|refusal| {
            self.refuse_frame(frame, refusal);
            Handled::Done
        })
    }

    fn refuse_frame(&mut self, frame: &Frame, Refusal(reason, detail): Refusal) {
        let (destination, receipt) = (frame.header("destination"), frame.header("receipt"));
        if !self.tell(reason, destination, receipt) {
            let detail = format!("{}: {detail}", frame.command.as_str());
            return self.fail(reason, &detail, receipt);
        }
        match frame.command {
            Command::Subscribe => {
                self.refused(frame.header("id"), destination.unwrap_or_default());
            }
            // A RECEIPT for the rest of it would say too much.
            Command::Send => {
                if let Some(transaction) = frame.header("transaction") {
                    self.transactions.refuse(transaction, reason);
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, now: Instant, frame: &Frame) -> Result<Handled, Refusal> {
        let destination = required(frame, "destination")?;
        let room = self
            .settings
            .destinations
            .send_room(destination)
            .map_err(|error| Refusal(CloseReason::BadDestination, error.to_string()))?;
        let ephemeral = is_ephemeral(frame, &room)?;
        let idempotency_key = frame
            .header("idempotency-key")
            .map(IdempotencyKey::parse)
            .transpose()
            .map_err(|error| Refusal(CloseReason::BadHeader, error.to_string()))?;
        let asked = receipt_after(frame)?.unwrap_or(self.settings.receipt_after);
        if let Permit::Asked = self.permit(now, &room, &[Action::Send])? {
            return Ok(Handled::Waits);
        }
        let draft = Draft {
            room,
            sender: self.user.clone(),
            content_type: frame.header("content-type").map(Arc::from),
            headers: forwarded(frame),
            body: frame.body.clone(),
            idempotency_key,
            newer_than: None,
            notify: None,
            series: self.series.clone(),
            ephemeral,
        };
        let publication = Publication {
            draft: Box::new(draft),
            receipt: frame.header("receipt").map(str::to_owned),
            asked,
            bytes: frame.headers.text_len() + frame.body.len(),
        };
        self.take_work(frame, Work::Publish(publication)).map(done)
    }

    fn subscribe(&mut self, now: Instant, frame: &Frame) -> Result<Handled, Refusal> {
        let destination = required(frame, "destination")?;
        // STOMP 1.0 allows a subscription without an id; its destination then names it.
        let id = match frame.header("id") {
            Some(id) => Some(Arc::from(id)),
            None if self.version == Version::V1_0 => None,
            None => return refuse(CloseReason::BadHeader, "the header `id` is missing"),
        };
        let room = self
            .settings
            .destinations
            .subscribe_room(destination, &self.user)
            .map_err(|error| Refusal(CloseReason::BadDestination, error.to_string()))?;
        let Some(mode) = AckMode::parse(frame.header("ack")) else {
            let text = "`ack` is auto, client or client-individual";
            return refuse(CloseReason::BadHeader, text);
        };
        let address = Address {
            version: self.version,
            subscription: id,
            destination: destination.into(),
            acknowledged: mode != AckMode::Auto,
            text_only: self.transport.is_sockjs(),
        };
        if self
            .subscriptions
            .iter()
            .any(|s| is_named(&s.address, frame.header("id"), destination))
        {
            return refuse(CloseReason::DuplicateSubscription, "this id is in use");
        }
        if self.subscriptions.len() >= self.settings.max_subscriptions {
            let text = format!("at most {} per connection", self.settings.max_subscriptions);
            return Err(Refusal(CloseReason::TooManySubscriptions, text));
        }
        let past = self.past_wanted(frame)?;
        let actions: &[Action] = match past {
            Past::None => &[Action::Subscribe],
            Past::After(_) | Past::Newest(_) => &[Action::Subscribe, Action::History],
        };
        let Permit::Granted(term) = self.permit(now, &room, actions)? else {
            return Ok(Handled::Waits);
        };
        self.watch(term);
        let claim = self.claim(&room)?;
        let receipt = frame.header("receipt").map(str::to_owned);
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.joining += 1;
        self.outputs.push_back(Output::Join {
            slot,
            room,
            address: address.clone(),
        });
        let subscription = Subscription::new(
            slot,
            claim,
            address,
            self.guarantees.journaled,
            Window::new(mode, self.settings.max_unacknowledged),
            past,
            receipt,
        );
        if self.subscriptions.is_empty() {
            // Most connections have one, and room for four would be a KiB.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription.allowed(term));
        Ok(Handled::Done)
    }

    /// Counts a subscription to `room`, here and with those who share a limit.
    fn claim(&self, room: &RoomName) -> Result<Claim, Refusal> {
        if let Some(most) = self.settings.guard.max_rooms {
            let rooms: HashSet<_> = self.subscriptions.iter().map(Subscription::room).collect();
            if rooms.len() >= most && !rooms.contains(room) {
                let text = format!("at most {most} rooms per connection");
                return Err(Refusal(CloseReason::TooManyRooms, text));
            }
        }
        Claim::new(&self.parties, room).map_err(|(reason, text)| Refusal(reason, text))
    }

    fn unsubscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header("id");
        let destination = frame.header("destination");
        if id.is_none() && (self.version > Version::V1_0 || destination.is_none()) {
            return refuse(CloseReason::BadHeader, "the header `id` is missing");
        }
        let Some(at) = self
            .subscriptions
            .iter()
            .position(|s| is_named(&s.address, id, destination.unwrap_or_default()))
        else {
            if self.was_refused(id, destination.unwrap_or_default()) {
                self.acknowledged(frame.header("receipt").map(str::to_owned));
                return Ok(());
            }
            return refuse(
                CloseReason::UnknownSubscription,
                "no subscription has this id",
            );
        };
        let mut subscription = self.subscriptions.remove(at);
        self.outputs.push_back(Output::Leave(subscription.slot));
        self.end_attaching(&mut subscription);
        self.no_longer_acknowledges(subscription);
        self.acknowledged(frame.header("receipt").map(str::to_owned));
        Ok(())
    }

    fn past_wanted(&self, frame: &Frame) -> Result<Past, Refusal> {
        match (frame.header("after"), frame.header("history")) {
            (None, None) => Ok(Past::None),
            (Some(_), Some(_)) => refuse(
                CloseReason::BadHeader,
                "`after` and `history` exclude each other",
            ),
            (Some(after), None) => after
                .parse()
                .and_then(|id: MessageId| match id.is_ephemeral() {
                    true => Err(InvalidName::Ephemeral),
                    false => Ok(Past::After(id)),
                })
                .map_err(|error| Refusal(CloseReason::BadHeader, format!("after: {error}"))),
            (None, Some(history)) => match history.parse::<usize>() {
                Ok(0) => Ok(Past::None),
                Ok(count) => Ok(Past::Newest(count.min(self.settings.max_history))),
                Err(_) => refuse(CloseReason::BadHeader, "`history` is a number of messages"),
            },
        }
    }
}

fn done(_: ()) -> Handled {
    Handled::Done
}

pub(super) fn refuse<T>(reason: CloseReason, detail: &str) -> Result<T, Refusal> {
    Err(Refusal(reason, detail.to_owned()))
}

pub(super) fn required<'a>(frame: &'a Frame, name: &str) -> Result<&'a str, Refusal> {
    frame.header(name).ok_or_else(|| {
        Refusal(
            CloseReason::BadHeader,
            format!("the header `{name}` is missing"),
        )
    })
}

/// What a frame's RECEIPT is to wait for, where it says so.
pub(super) fn receipt_after(frame: &Frame) -> Result<Option<ReceiptAfter>, Refusal> {
    let Some(text) = frame.header("receipt-after") else {
        return Ok(None);
    };
    let Some(after) = ReceiptAfter::parse(text) else {
        let text = "receipt-after is accepted or stored";
        return refuse(CloseReason::BadHeader, text);
    };
    Ok(Some(after))
}

/// Whether a SEND is only for those who listen now: what goes to a room is stored unless it says
/// `ephemeral:true`, what goes to a user's queue is not unless it says `persist:true`.
fn is_ephemeral(frame: &Frame, room: &RoomName) -> Result<bool, Refusal> {
    let (ephemeral, persist) = (flag(frame, "ephemeral")?, flag(frame, "persist")?);
    if ephemeral && persist {
        let text = "`ephemeral` and `persist` exclude each other";
        return refuse(CloseReason::BadHeader, text);
    }
    let ephemeral = ephemeral || (room.is_queue() && !persist);
    if ephemeral && receipt_after(frame)? == Some(ReceiptAfter::Stored) {
        let text = "`receipt-after:stored` is for what is stored: not for `ephemeral:true`, and for a \
            user's queue only with `persist:true`";
        return refuse(CloseReason::BadHeader, text);
    }
    Ok(ephemeral)
}

fn flag(frame: &Frame, name: &str) -> Result<bool, Refusal> {
    match frame.header(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal(
            CloseReason::BadHeader,
            format!("`{name}` is true or false"),
        )),
    }
}

/// Whether this names the subscription: its id, or its destination where it has none.
fn is_named(address: &Address, id: Option<&str>, destination: &str) -> bool {
    address.subscription.as_deref() == id && (id.is_some() || *address.destination == *destination)
}

fn forwarded(frame: &Frame) -> Vec<(Box<str>, Box<str>)> {
    let mut headers: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in frame.headers.iter() {
        // The first of repeated headers is the one that counts (STOMP 1.2, "Repeated Header
        // Entries"), so the others need not travel.
        if is_forwarded(name) && !headers.iter().any(|(known, _)| **known == *name) {
            headers.push((name.into(), value.into()));
        }
    }
    headers
}
