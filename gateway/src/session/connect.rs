//! CONNECT and STOMP (STOMP 1.2, section "Connecting").

use std::time::Instant;

use shared::message::UserName;
use shared::stomp::encode;
use shared::stomp::heartbeat::{negotiate, parse_header};
use shared::stomp::{Command, Frame, Version};

use super::output::{Outgoing, Output};
use super::{Session, State};
use crate::auth::{AuthError, Credentials, Identity, Token, bearer};
use crate::close::CloseReason;
use crate::config::Auth;

/// What CONNECTED is made of, once it is known who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The heart-beats that are offered, and those that the client has named.
    offer: (u32, u32),
    asked: (u32, u32),
    /// `receipt` of CONNECT, for the ERROR.
    receipt: Option<String>,
}

impl Session {
    pub(super) fn connect(&mut self, now: Instant, deadline: Instant, frame: &Frame) {
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
        let ours = u32::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u32::MAX);
        // The offer is `--heartbeat`, but a client may have it as short as a second.
        let offer = |wanted: u32| {
            if wanted == 0 {
                ours
            } else {
                ours.min(wanted.max(1_000))
            }
        };
        // STOMP 1.0 has no heart-beats (1.1 introduced them). The header is there all the same:
        // old clients look into it without asking whether it is.
        let offer = if version > Version::V1_0 {
            (offer(heart_beat.1), offer(heart_beat.0))
        } else {
            (0, 0)
        };
        let greeting = Greeting {
            offer,
            asked: heart_beat,
            receipt: receipt.map(str::to_owned),
        };
        self.version = version;
        self.decoder.set_version(version);
        match self.settings.auth.auth {
            Auth::None => {
                let login = frame.header("login").filter(|login| !login.is_empty());
                match login.map(UserName::parse).transpose() {
                    Ok(login) => self.welcome(now, &greeting, Identity::unproved(login)),
                    Err(error) => {
                        let detail = format!("login: {error}");
                        self.fail(CloseReason::BadHeader, &detail, receipt);
                    }
                }
            }
            Auth::Jwt => {
                self.state = State::Authenticating { deadline, greeting };
                let token = token(frame);
                let credentials = Credentials { login: None, token };
                self.outputs.push_back(Output::Authenticate(credentials));
            }
        }
    }

    /// The answer to [`Output::Authenticate`].
    pub fn authenticated(&mut self, now: Instant, who: Result<Identity, AuthError>) {
        let State::Authenticating { greeting, .. } = &self.state else {
            return;
        };
        let greeting = greeting.clone();
        match who {
            Ok(identity) => self.welcome(now, &greeting, identity),
            Err(error) => {
                let receipt = greeting.receipt.as_deref();
                self.fail(error.reason(), &error.to_string(), receipt);
            }
        }
        self.take_frames(now);
    }

    fn welcome(&mut self, now: Instant, greeting: &Greeting, identity: Identity) {
        self.user = identity.user.clone();
        self.expires = identity.expires;
        self.permits.identify(identity);
        self.heart_beat = negotiate(greeting.offer, greeting.asked);
        self.state = State::Open;
        self.last_read = now;
        self.last_write = now;

        let (can, want) = greeting.offer;
        let frame = Frame::new(Command::Connected)
            .with("version", self.version.as_str())
            .with("heart-beat", &format!("{can},{want}"))
            .with("session", &self.id)
            .with("server", concat!("roomcast/", env!("CARGO_PKG_VERSION")))
            .with("user-name", self.user.as_str());
        let octets = encode(&frame, self.version);
        self.outputs
            .push_back(Output::Write(Outgoing::Text(octets)));
    }
}

/// What CONNECT proves who the client is with: `Authorization`, in any case, since libraries write it
/// as HTTP does, else `passcode`.
fn token(frame: &Frame) -> Option<Token> {
    let authorization = frame
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    authorization
        .and_then(|(_, value)| bearer(value))
        .or_else(|| {
            let passcode = frame.header("passcode").filter(|code| !code.is_empty())?;
            Some(Token::new(passcode))
        })
}
