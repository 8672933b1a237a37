//! What time brings: heart-beats (STOMP 1.2, section "Heart-beating"), and deadlines.

use std::time::{Duration, Instant};

use super::message::HEART_BEAT;
use super::meter::Kind;
use super::output::{Outgoing, Output};
use super::{Session, State};
use crate::close::CloseReason;

/// How long a client without heart-beats may be silent before its transport is asked.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How often SockJS's clients are sent a heart-beat (SockJS 0.3.3, "Protocol and framing").
const SOCKJS_INTERVAL: Duration = Duration::from_secs(25);

impl Session {
    /// A sign of life from the client's transport, without octets. It counts as a control frame.
    pub fn heard(&mut self, now: Instant) {
        self.last_read = now;
        if !self.is_ending() {
            self.count(now, &[Kind::Controls], 0);
        }
    }

    /// A message of the client's transport has begun, whose octets come when it is whole.
    pub fn begun(&mut self, now: Instant) {
        self.last_read = now;
        self.begun_since.get_or_insert(now);
    }

    /// Octets went to the client.
    pub fn wrote(&mut self, now: Instant) {
        self.last_write = now;
    }

    /// The time that [`Self::timeout`] named has come.
    pub fn tick(&mut self, now: Instant) {
        self.release(now);
        match &self.state {
            State::Opening { deadline, latest }
                if now >= *latest || (now >= *deadline && !self.meters.is_holding()) =>
            {
                let detail = "no CONNECT frame has come";
                self.fail(CloseReason::ConnectTimeout, detail, None);
            }
            State::Authenticating { deadline, .. } if now >= *deadline => {
                let detail = "the token could not be checked in time";
                self.fail(CloseReason::AuthUnavailable, detail, None);
            }
            // One that is leaving, or sent away, only finishes what it had sent before.
            State::Open if self.expires.is_some_and(|expires| now >= expires) => {
                let detail = CloseReason::TokenExpired.message();
                self.fail(CloseReason::TokenExpired, detail, None);
            }
            _ => {}
        }
        if self.closing().is_some() {
            return;
        }
        self.review(now);
        if self.closing().is_some() {
            return;
        }
        if self.outgoing_due().is_some_and(|due| now >= due) {
            self.outputs.push_back(Output::Write(HEART_BEAT));
            self.last_write = now;
        }
        if self.ping_due().is_some_and(|due| now >= due) {
            self.outputs.push_back(Output::Write(Outgoing::Ping));
            self.last_ping = now;
        }
        if !self.wants_input() {
            // We have not been listening, so silence says nothing about the client.
            if self.incoming_due() <= now {
                self.last_read = now;
            }
            self.unfinished_since = self.unfinished_since.map(|_| now);
            self.begun_since = self.begun_since.map(|_| now);
            return;
        }
        if self.incoming_due() <= now {
            let detail = "the client has been silent for too long";
            return self.fail(CloseReason::HeartBeatTimeout, detail, None);
        }
        if self.frame_due().is_some_and(|due| now >= due) {
            let receipt = self.decoder.receipt().map(str::to_owned);
            let detail = "a frame has had no end for too long";
            self.fail(CloseReason::FrameTimeout, detail, receipt.as_deref());
        }
    }

    /// When [`Self::tick`] is due at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let state = match &self.state {
            // What it is to send may be what is held.
            State::Opening { latest, .. } if self.meters.is_holding() => Some(*latest),
            State::Opening { deadline, .. } | State::Authenticating { deadline, .. } => {
                Some(*deadline)
            }
            State::Open => self.expires,
            State::Closed(_) => return None,
            _ => None,
        };
        let dues = [
            state,
            self.meters.due(),
            self.outgoing_due(),
            self.ping_due(),
            self.frame_due(),
            self.review_due,
            Some(self.incoming_due()),
        ];
        dues.into_iter().flatten().min()
    }

    fn outgoing_due(&self) -> Option<Instant> {
        // A client gives up after twice the interval; a tenth earlier than agreed covers timers.
        self.heart_beat
            .outgoing
            .map(|interval| self.last_write + interval * 9 / 10)
    }

    fn frame_due(&self) -> Option<Instant> {
        let begun = [self.unfinished_since, self.begun_since];
        let since = begun.into_iter().flatten().min()?;
        Some(since + self.settings.frame_deadline)
    }

    fn incoming_due(&self) -> Instant {
        let interval = self.heart_beat.incoming.unwrap_or(PING_INTERVAL);
        self.last_read + grace(interval)
    }

    /// A client without heart-beats may be half open; only its transport can tell. SockJS has
    /// heart-beats of its own, which STOMP's replace where they are as frequent: proxies, and the
    /// sign of life that a client gives by taking one, count on them.
    fn ping_due(&self) -> Option<Instant> {
        if self.transport.is_sockjs() {
            return Some(self.last_write.max(self.last_ping) + SOCKJS_INTERVAL);
        }
        let silent_since = self.last_read.max(self.last_ping);
        self.heart_beat
            .incoming
            .is_none()
            .then(|| silent_since + PING_INTERVAL)
    }
}

/// How long a client may be silent: two and a half times what was agreed.
fn grace(interval: Duration) -> Duration {
    interval * 5 / 2
}
