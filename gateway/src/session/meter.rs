//! How fast a client may send: over a rate it is slowed down, and cut off when it presses on.
//!
//! What comes over a rate is held, and nothing more is taken meanwhile, so that TCP tells the client. It
//! presses on while what it sends has to be held again as soon as it has passed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::stomp::Command;

use super::output::Output;
use super::{Session, State};
use crate::close::CloseReason;
use crate::config::Settings;
use crate::guard::bucket::Bucket;
use crate::guard::{Party, Scope};

/// Who sends nothing that must be held for so long after the last that was has not pressed on.
const PAUSE: Duration = Duration::from_secs(1);

/// The rates of one session.
#[derive(Debug)]
pub(super) struct Meters {
    meters: Vec<Meter>,
    patience: Duration,
    held: Option<Held>,
}

/// Nothing is taken for now.
#[derive(Clone, Copy, Debug)]
struct Held {
    until: Instant,
    /// When patience ends, and with which limit.
    gives_up: Instant,
    limit: Limit,
}

#[derive(Debug)]
struct Meter {
    limit: Limit,
    tokens: Tokens,
    pressed: Option<Pressed>,
}

#[derive(Debug)]
enum Tokens {
    Own(Bucket),
    Shared(Arc<Party>),
}

/// The client has been slowed down since then, and may go on at `until`.
#[derive(Clone, Copy, Debug)]
struct Pressed {
    since: Instant,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    kind: Kind,
    scope: Scope,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SEND frames.
    Sends,
    /// Frames that carry no message, heart-beats, and signs of life.
    Controls,
    /// Frames of any kind.
    Frames,
    /// Octets of messages.
    Octets,
}

impl Limit {
    /// What an ERROR says of it.
    fn text(self) -> String {
        let what = match self.kind {
            Kind::Sends => "messages",
            Kind::Controls => "frames other than SEND, ACK and NACK",
            Kind::Frames => "frames",
            Kind::Octets => "octets",
        };
        let whose = match self.scope {
            Scope::Connection => "",
            Scope::User => " of one user",
            Scope::Address => " from one address",
        };
        format!("more {what} a second than are allowed{whose}")
    }
}

impl Meters {
    /// The rates that a connection has by itself.
    pub(super) fn new(settings: &Settings) -> Self {
        let own = [
            (Kind::Sends, settings.send_rate),
            (Kind::Controls, settings.control_rate),
            (Kind::Octets, settings.guard.byte_rate),
        ];
        let meters = own.into_iter().filter_map(|(kind, rate)| {
            Some(Meter {
                limit: Limit {
                    kind,
                    scope: Scope::Connection,
                },
                tokens: Tokens::Own(Bucket::new(rate?)),
                pressed: None,
            })
        });
        let mut meters: Vec<_> = meters.collect();
        // It makes room for four.
        meters.shrink_to_fit();
        Self {
            meters,
            patience: settings.guard.rate_patience,
            held: None,
        }
    }

    /// Adds the rates of a party that the client belongs to.
    pub(super) fn share(&mut self, party: &Arc<Party>) {
        let (frames, octets) = party.has_rates();
        for (kind, has) in [(Kind::Frames, frames), (Kind::Octets, octets)] {
            if has {
                self.meters.push(Meter {
                    limit: Limit {
                        kind,
                        scope: party.scope(),
                    },
                    tokens: Tokens::Shared(Arc::clone(party)),
                    pressed: None,
                });
            }
        }
    }

    /// Whether nothing is taken for now.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.map(|held| held.until.min(held.gives_up))
    }
}

impl Session {
    /// Shares limits with others: of rates, subscriptions and rooms.
    pub fn share(&mut self, party: Arc<Party>) {
        self.meters.share(&party);
        self.parties.push(party);
    }

    /// Whether what the client sends is held, because it came over a rate. Time lets it pass.
    pub fn is_slowed(&self) -> bool {
        self.meters.is_holding() && self.closing().is_none()
    }

    /// Counts what has come. Whether to go on; otherwise nothing is taken until it is due, or the
    /// session has ended.
    pub(super) fn count(&mut self, now: Instant, kinds: &[Kind], octets: usize) -> bool {
        let Meters {
            meters,
            patience,
            held,
        } = &mut self.meters;
        let mut too_much = None;
        for meter in meters {
            if !kinds.contains(&meter.limit.kind) {
                continue;
            }
            let is_octets = meter.limit.kind == Kind::Octets;
            let count = if is_octets { octets } else { 1 };
            let wait = match &mut meter.tokens {
                Tokens::Own(bucket) => bucket.take(now, count),
                Tokens::Shared(party) if is_octets => party.take_octets(now, count),
                Tokens::Shared(party) => party.take_frame(now),
            };
            let Some(until) = wait else {
                meter.pressed = None;
                continue;
            };
            let before = meter
                .pressed
                .filter(|pressed| now.saturating_duration_since(pressed.until) < PAUSE);
            if before.is_none() {
                let scope = meter.limit.scope;
                self.outputs.push_back(Output::Slowed(scope));
            }
            let since = before.map_or(now, |pressed| pressed.since);
            meter.pressed = Some(Pressed { since, until });
            let gives_up = since + *patience;
            if gives_up <= now {
                too_much = Some(meter.limit);
            }
            let (earlier, later) = match *held {
                Some(held) => (Some(held), held.until.max(until)),
                None => (None, until),
            };
            *held = Some(match earlier {
                Some(held) if held.gives_up <= gives_up => Held {
                    until: later,
                    ..held
                },
                _ => Held {
                    until: later,
                    gives_up,
                    limit: meter.limit,
                },
            });
        }
        if let Some(limit) = too_much {
            self.pressed_on(limit);
        }
        !self.meters.is_holding() && self.closing().is_none()
    }

    /// Lets what was held pass when its time has come, or ends the session when it is out of patience.
    pub(super) fn release(&mut self, now: Instant) {
        let Some(held) = self.meters.held else {
            return;
        };
        if self.is_ending() || now >= held.until {
            self.meters.held = None;
            // The time of a client whose CONNECT was held begins when it is let go.
            if let State::Opening { deadline, latest } = &mut self.state {
                *deadline = (*deadline).max(now + PAUSE).min(*latest);
            }
            self.take_frames(now);
        } else if now >= held.gives_up {
            self.pressed_on(held.limit);
        }
    }

    fn pressed_on(&mut self, limit: Limit) {
        self.meters.held = None;
        let receipt = self
            .stalled
            .as_ref()
            .and_then(|frame| frame.header("receipt"));
        let receipt = receipt.map(str::to_owned);
        self.fail(CloseReason::RateLimited, &limit.text(), receipt.as_deref());
    }
}

/// What a frame counts as: those that carry messages, or say that they arrived, are as many as there are
/// messages.
pub(super) fn kinds(command: Command) -> &'static [Kind] {
    match command {
        Command::Send => &[Kind::Sends, Kind::Frames],
        Command::Ack | Command::Nack => &[Kind::Frames],
        _ => &[Kind::Controls, Kind::Frames],
    }
}
