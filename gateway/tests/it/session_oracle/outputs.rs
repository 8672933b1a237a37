//! What the session asks of its driver, carried out and judged.

use gateway::close::CloseReason;
use gateway::config::ReceiptAfter;
use gateway::session::output::{Outgoing, Output, Slot};
use shared::message::Span;
use shared::stomp::heartbeat::{negotiate, parse_header};
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version};

use super::client::{Outcome, Receipted};
use super::reader::{Reader, Window};
use super::world::World;

impl World {
    pub(super) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Write(Outgoing::Ping) => {}
            Output::Write(outgoing) => {
                self.last_write = self.now;
                self.session.wrote(self.now);
                if outgoing != Outgoing::Text("\n".into()) {
                    self.written(&outgoing);
                }
            }
            Output::Deliver(delivery) => {
                self.last_write = self.now;
                self.session.wrote(self.now);
                self.written(&delivery.encoded.frame);
            }
            Output::Authenticate(_) | Output::Authorize { .. } | Output::Decided(_) => {
                panic!("everyone may do everything here")
            }
            Output::Publish {
                token,
                draft,
                until,
            } => {
                let place = self.client.publish(&draft);
                let is_lasting = self.guarantees.durable || until == ReceiptAfter::Stored;
                let is_told = self.client.wants_receipt(place);
                assert!(
                    is_lasting || !is_told || draft.ephemeral,
                    "a RECEIPT for what dies with this process"
                );
                assert!(
                    !draft.ephemeral || until == ReceiptAfter::Accepted,
                    "a RECEIPT that waits for what is never stored"
                );
                self.publishes
                    .push((token, place, draft.room, draft.ephemeral));
            }
            Output::Join {
                slot,
                room,
                address,
            } => {
                let subscribe = self.client.subscribe(slot.0 as usize);
                let log = self.rooms.entry(room.clone()).or_default();
                let after = subscribe
                    .header("after")
                    .and_then(|after| after.parse().ok());
                let mode = subscribe.header("ack").unwrap_or("auto");
                let window = Window::new(mode, self.settings.max_unacknowledged);
                let journaled = self.guarantees.journaled;
                let mut reader = Reader::new(room, address, journaled, after, log.len(), window);
                reader.awaits_receipt = subscribe.header("receipt").is_some();
                self.readers.insert(slot, reader);
                self.joins.push(slot);
            }
            Output::Leave(slot) => {
                let left = self.readers.remove(&slot).expect("what was joined");
                if left.awaits_receipt {
                    self.client
                        .subscribed(slot.0 as usize, Some(Outcome::Dropped));
                }
            }
            Output::Read {
                slot,
                room,
                span,
                limit,
            } => {
                assert!(limit > 0 && !matches!(span, Span::Before(_)));
                // The RECEIPT waits for this page too.
                self.client.subscribed(slot.0 as usize, None);
                self.reads.push((slot, room, span, limit));
            }
            Output::Slowed(_) => {}
            Output::Close(reason) => self.close(reason),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::ClientDisconnected | CloseReason::Restart => {
                assert!(
                    self.publishes.is_empty(),
                    "{reason:?} leaves a publish behind"
                );
            }
            _ => assert!(self.error.is_some(), "{reason:?} closes without an ERROR"),
        }
        self.closed = Some(reason);
    }

    fn written(&mut self, outgoing: &Outgoing) {
        assert!(!self.said_goodbye, "DISCONNECT's RECEIPT is the last word");
        let frame = self.read(outgoing);
        match frame.command {
            Command::Connected => {
                let version = frame.header("version").and_then(Version::parse);
                self.is_connected = true;
                self.version = version.expect("CONNECTED has the version");
                if self.version > Version::V1_0 {
                    let ours = frame
                        .header("heart-beat")
                        .expect("CONNECTED has heart-beats");
                    let ours = parse_header(ours).expect("two numbers");
                    self.heart_beat = negotiate(ours, self.client.heart_beat());
                }
            }
            Command::Receipt => {
                let receipted = self.client.receipt(&frame);
                self.said_goodbye = receipted == Receipted::Disconnect;
                if let Receipted::Subscribe(nth) = receipted
                    && let Some(reader) = self.readers.get_mut(&slot(nth))
                {
                    reader.awaits_receipt = false;
                    assert!(frame.header("recovered") != Some("true") || !reader.holes);
                }
            }
            Command::Message => {
                let reader = self
                    .readers
                    .values_mut()
                    .find(|reader| reader.is_named(&frame));
                let reader = reader.expect("a MESSAGE is for a subscription that there is");
                let log = self.rooms.get(&reader.room).map_or(&[][..], Vec::as_slice);
                reader.message(&frame, log);
                self.client.message(&frame);
                self.seen.push(frame);
            }
            Command::Error => {
                self.client.error(&frame);
                self.error = Some(frame.header("code").expect("ERROR has a code").to_owned());
            }
            other => panic!("a server does not send {other:?}"),
        }
    }

    /// The one frame in one message of the transport.
    fn read(&self, outgoing: &Outgoing) -> Frame {
        let octets = match outgoing {
            Outgoing::Text(octets) => {
                assert!(str::from_utf8(octets).is_ok(), "text is UTF-8");
                octets
            }
            Outgoing::Binary(octets) => {
                assert!(!self.transport.is_sockjs(), "SockJS carries text only");
                octets
            }
            Outgoing::Ping => panic!("a ping is no frame"),
        };
        let mut decoder = Decoder::new(Limits {
            frame_bytes: usize::MAX,
            ..Limits::default()
        });
        decoder.set_version(self.version);
        decoder.feed(octets);
        let Ok(Some(Decoded::Frame(frame))) = decoder.next() else {
            panic!("{octets:?} is no frame");
        };
        assert_eq!(
            (decoder.next(), decoder.buffered()),
            (Ok(None), 0),
            "one frame at a time"
        );
        frame
    }
}

/// Sessions number their subscriptions from 0.
fn slot(nth: usize) -> Slot {
    Slot(u32::try_from(nth).expect("few subscriptions"))
}
