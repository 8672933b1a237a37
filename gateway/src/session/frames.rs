//! What each client frame does (STOMP 1.2, section "Client Frames").

use std::sync::Arc;
use std::time::Instant;

use shared::message::{Draft, IdempotencyKey, InvalidName, MessageId, RoomName};
use shared::stomp::{Command, Frame, Version};

use super::message::is_forwarded;
use super::output::{Address, Output, Slot};
use super::subscription::{Past, Subscription};
use super::{InFlight, Session, State};
use crate::close::CloseReason;
use crate::config::ReceiptAfter;

/// Why a frame is refused.
struct Refusal(CloseReason, String);

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
                let receipt = frame.header("receipt").map(str::to_owned);
                self.state = State::Leaving { receipt };
                self.finish_if_idle();
                return;
            }
            Command::Ack | Command::Nack | Command::Begin | Command::Commit | Command::Abort => {
                let text = "acknowledgements and transactions are not served";
                refuse(CloseReason::UnsupportedFrame, text)
            }
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
        unsupported(frame, "transaction")?;
        let ephemeral = is_ephemeral(frame, &room)?;
        let idempotency_key = frame
            .header("idempotency-key")
            .map(IdempotencyKey::parse)
            .transpose()
            .map_err(|error| Refusal(CloseReason::BadHeader, error.to_string()))?;
        let receipt = frame.header("receipt").map(str::to_owned);
        let asked = match frame.header("receipt-after") {
            None => self.settings.receipt_after,
            Some("accepted") => ReceiptAfter::Accepted,
            Some("stored") => ReceiptAfter::Stored,
            Some(_) => {
                return refuse(
                    CloseReason::BadHeader,
                    "receipt-after is accepted or stored",
                );
            }
        };
        let until = match &receipt {
            None => ReceiptAfter::Accepted,
            Some(_) => asked.due(self.guarantees, ephemeral),
        };
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
            ephemeral,
        };
        let token = self.next_token;
        self.next_token += 1;
        let bytes = frame.headers.text_len() + frame.body.len();
        self.in_flight_bytes += bytes;
        let waiting = InFlight {
            receipt,
            bytes,
            ephemeral,
        };
        self.in_flight.insert(token, waiting);
        self.outputs.push_back(Output::Publish {
            token,
            draft: Box::new(draft),
            until,
        });
        Ok(())
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
            .subscribe_room(destination, &self.user)
            .map_err(|error| Refusal(CloseReason::BadDestination, error.to_string()))?;
        if !matches!(frame.header("ack"), None | Some("auto")) {
            return refuse(CloseReason::UnsupportedFrame, "only `ack:auto` is served");
        }
        let address = Address {
            version: self.version,
            subscription: id,
            destination: destination.into(),
            acknowledged: false,
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
        let slot = self.subscriptions.remove(at).slot;
        self.outputs.push_back(Output::Leave(slot));
        if let Some(receipt) = frame.header("receipt") {
            self.write(&Frame::new(Command::Receipt).with("receipt-id", receipt));
        }
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

fn refuse<T>(reason: CloseReason, detail: &str) -> Result<T, Refusal> {
    Err(Refusal(reason, detail.to_owned()))
}

fn required<'a>(frame: &'a Frame, name: &str) -> Result<&'a str, Refusal> {
    frame.header(name).ok_or_else(|| {
        Refusal(
            CloseReason::BadHeader,
            format!("the header `{name}` is missing"),
        )
    })
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

/// Whether a SEND is only for those who listen now: what goes to a room is stored unless it says
/// `ephemeral:true`, what goes to a user's queue is not unless it says `persist:true`.
fn is_ephemeral(frame: &Frame, room: &RoomName) -> Result<bool, Refusal> {
    let (ephemeral, persist) = (flag(frame, "ephemeral")?, flag(frame, "persist")?);
    if ephemeral && persist {
        let text = "`ephemeral` and `persist` exclude each other";
        return refuse(CloseReason::BadHeader, text);
    }
    let ephemeral = ephemeral || (room.is_queue() && !persist);
    if ephemeral && frame.header("receipt-after") == Some("stored") {
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
