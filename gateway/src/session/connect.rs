//! CONNECT and STOMP (STOMP 1.2, section "Connecting").

use std::time::Instant;

use shared::message::UserName;
use shared::stomp::encode;
use shared::stomp::heartbeat::{negotiate, parse_header};
use shared::stomp::{Command, Frame, Version};

use super::output::{Outgoing, Output};
use super::{Session, State};
use crate::close::CloseReason;

impl Session {
    pub(super) fn connect(&mut self, now: Instant, frame: &Frame) {
        let receipt = frame.header("receipt");
        // A client that names no version speaks 1.0.
        let accepted = frame.header("accept-version").unwrap_or("1.0");
        let Some(version) = Version::highest(accepted) else {
            let detail = "this server speaks STOMP 1.0, 1.1 and 1.2";
            return self.fail(CloseReason::VersionUnsupported, detail, receipt);
        };
        let heart_beat = match frame.header("heart-beat").map(parse_header).transpose() {
            Ok(heart_beat) => heart_beat.unwrap_or((0, 0)),
            Err(error) => return self.fail(CloseReason::BadHeader, &error.to_string(), receipt),
        };
        match frame
            .header("login")
            .filter(|login| !login.is_empty())
            .map(UserName::parse)
        {
            None => {}
            Some(Ok(user)) => self.user = user,
            Some(Err(error)) => {
                return self.fail(CloseReason::BadHeader, &format!("login: {error}"), receipt);
            }
        }
        let ours = u32::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u32::MAX);
        // The offer is `--heartbeat`, but a client may have it as short as a second.
        let offer = |wanted: u32| {
            if wanted == 0 {
                ours
            } else {
                ours.min(wanted.max(1_000))
            }
        };
        let offer = (offer(heart_beat.1), offer(heart_beat.0));
        // STOMP 1.0 has no heart-beats (1.1 introduced them).
        if version > Version::V1_0 {
            self.heart_beat = negotiate(offer, heart_beat);
        }
        self.version = version;
        self.decoder.set_version(version);
        self.state = State::Open;
        self.last_write = now;

        let frame = Frame::new(Command::Connected)
            .with("version", version.as_str())
            .with("heart-beat", &format!("{},{}", offer.0, offer.1))
            .with("session", &self.id)
            .with("server", concat!("roomcast/", env!("CARGO_PKG_VERSION")))
            .with("user-name", self.user.as_str());
        self.outputs
            .push_back(Output::Write(Outgoing::Text(encode(&frame, version))));
    }
}
