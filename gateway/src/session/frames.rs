//! What each client frame does (STOMP 1.2, section "Client Frames").

use std::sync::Arc;
use std::time::Instant;

use shared::message::{Draft, IdempotencyKey, MessageId};
use shared::stomp::{Command, Frame, Version};

use super::message::is_forwarded;
use super::output::{Address, Output, Slot};
use super::publication::Publication;
use super::subscription::{Past, Subscription};
use super::transaction::Work;
use super::window::{AckMode, Window};
use super::{Session, State};
use crate::close::CloseReason;
use crate::config::ReceiptAfter;

/// Why a frame is refused.
pub(super) struct Refusal(pub(super) CloseReason, pub(super) String);

impl Session {
    pub(super) fn handle(&mut self, now: Instant, frame: &Frame) {
        let opening = matches!(self.state, State::Opening { .. });
        let handled = match frame.command {
            Command::Connect | Command::Stomp if opening => {
                self.connect(now, frame);
                return;
            }
            _ if opening => refuse(CloseReason::NotConnected, "the first frame must be CONNECT"),
            Command::Connect | Command::Stomp => refuse(
                CloseReason::AlreadyConnected,
                "this session is connected already",
            ),
            Command::Send => self.send(now, frame),
            Command::Subscribe => self.subscribe(frame),
            Command::Unsubscribe => self.unsubscribe(frame),
            Command::Disconnect => {
                for mut subscription in std::mem::take(&mut self.subscriptions) {
                    self.end_attaching(&mut subscription);
                }
                let receipt = frame.header("receipt").map(str::to_owned);
                self.state = State::Leaving { receipt };
                self.finish_if_idle();
                return;
            }
            Command::Ack | Command::Nack => self.ack(frame),
            Command::Begin => self.begin(frame),
            Command::Commit => self.commit(frame),
            Command::Abort => self.abort(frame),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                refuse(CloseReason::ProtocolError, "only a server sends this frame")
            }
        };
        if let Err(Refusal(reason, detail)) = handled {
            let detail = format!("{}: {detail}", frame.command.as_str());
            self.fail(reason, &detail, frame.header("receipt"));
        }
    }

    fn send(&mut self, now: Instant, frame: &Frame) -> Result<(), Refusal> {
        let destination = required(frame, "destination")?;
        let room = self
            .settings
            .destinations
            .send_room(destination)
            .map_err(|error| Refusal(CloseReason::BadDestination, error.to_string()))?;
        unsupported(frame, "ephemeral")?;
        let idempotency_key = frame
            .header("idempotency-key")
            .map(IdempotencyKey::parse)
            .transpose()
            .map_err(|error| Refusal(CloseReason::BadHeader, error.to_string()))?;
        let asked = receipt_after(frame)?.unwrap_or(self.settings.receipt_after);
        if self.rate.as_mut().is_some_and(|rate| !rate.allow(now)) {
            return refuse(
                CloseReason::RateLimited,
                "more messages a second than are allowed",
            );
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
            ephemeral: false,
        };
        let publication = Publication {
            draft: Box::new(draft),
            receipt: frame.header("receipt").map(str::to_owned),
            asked,
            bytes: frame.headers.text_len() + frame.body.len(),
        };
        self.take_work(frame, Work::Publish(publication))
    }

    fn subscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
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
            .subscribe_room(destination)
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
            .any(|s| is_named(&s.address, &address))
        {
            return refuse(CloseReason::DuplicateSubscription, "this id is in use");
        }
        if self.subscriptions.len() >= self.settings.max_subscriptions {
            let text = format!("at most {} per connection", self.settings.max_subscriptions);
            return Err(Refusal(CloseReason::TooManySubscriptions, text));
        }
        let past = self.past_wanted(frame)?;
        let receipt = frame.header("receipt").map(str::to_owned);
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.joining += 1;
        self.outputs.push_back(Output::Join {
            slot,
            room: room.clone(),
            address: address.clone(),
        });
        self.subscriptions.push(Subscription::new(
            slot,
            room,
            address,
            self.guarantees.journaled,
            Window::new(mode, self.settings.max_unacknowledged),
            past,
            receipt,
        ));
        Ok(())
    }

    fn unsubscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header("id");
        let destination = frame.header("destination");
        if id.is_none() && (self.version > Version::V1_0 || destination.is_none()) {
            return refuse(CloseReason::BadHeader, "the header `id` is missing");
        }
        let named = Address {
            version: self.version,
            subscription: id.map(Arc::from),
            destination: destination.unwrap_or_default().into(),
            acknowledged: false,
            text_only: self.transport.is_sockjs(),
        };
        let Some(at) = self
            .subscriptions
            .iter()
            .position(|s| is_named(&s.address, &named))
        else {
            return refuse(
                CloseReason::UnknownSubscription,
                "no subscription has this id",
            );
        };
        let mut subscription = self.subscriptions.remove(at);
        self.outputs.push_back(Output::Leave(subscription.slot));
        self.end_attaching(&mut subscription);
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
                .parse::<MessageId>()
                .map(Past::After)
                .map_err(|error| Refusal(CloseReason::BadHeader, format!("after: {error}"))),
            (None, Some(history)) => match history.parse::<usize>() {
                Ok(0) => Ok(Past::None),
                Ok(count) => Ok(Past::Newest(count.min(self.settings.max_history))),
                Err(_) => refuse(CloseReason::BadHeader, "`history` is a number of messages"),
            },
        }
    }
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
    match frame.header("receipt-after") {
        None => Ok(None),
        Some("accepted") => Ok(Some(ReceiptAfter::Accepted)),
        Some("stored") => Ok(Some(ReceiptAfter::Stored)),
        Some(_) => refuse(
            CloseReason::BadHeader,
            "receipt-after is accepted or stored",
        ),
    }
}

fn unsupported(frame: &Frame, name: &str) -> Result<(), Refusal> {
    match frame.header(name) {
        None | Some("false") => Ok(()),
        Some(_) => Err(Refusal(
            CloseReason::UnsupportedFrame,
            format!("`{name}` is not served"),
        )),
    }
}

/// Whether two subscriptions have the same name: the id, or the destination where there is none.
fn is_named(one: &Address, other: &Address) -> bool {
    one.subscription == other.subscription
        && (one.subscription.is_some() || one.destination == other.destination)
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
