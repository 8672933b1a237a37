//! What is loaded: a server that speaks STOMP over WebSocket, what its destinations are called, and
//! what of it can be checked.

use bytes::Bytes;
use shared::exit::Failure;
use shared::stomp::{Command, Frame, Version, encode};
use std::time::Duration;

use crate::config::{GatewayUrl, Header, ReceiptAfter, Server, TargetArgs};
use crate::pass::Pass;
use crate::wire::Sources;

/// A server, and how it is spoken to.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its gateways, at least one.
    pub gateways: Vec<GatewayUrl>,
    /// How users get in.
    pub pass: Pass,
    /// Where connections leave from.
    pub sources: Sources,
    /// What the WebSocket's opening offers.
    pub subprotocol: String,
    /// How long a connection may take until it is subscribed.
    pub connect_timeout: Duration,
    /// Connections opened a second.
    pub connect_rate: Option<f64>,
    /// What it is checked for.
    pub checks: Checks,
    heartbeat: Option<Duration>,
    send_to: String,
    subscribe_to: String,
    login: Option<String>,
    passcode: Option<String>,
    vhost: Option<String>,
    headers: Vec<Header>,
    send_headers: Vec<Header>,
    subscribe_headers: Vec<Header>,
}

/// What can be checked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    /// Ids that name a message in every delivery and in its receipt, and that order them; where there
    /// are none, each sender's own order is checked.
    pub ids: bool,
    /// A `sender` in every delivery.
    pub senders: bool,
    /// A receipt for every message.
    pub receipts: bool,
}

impl Checks {
    /// All of them.
    pub(crate) const ALL: Self = Self {
        ids: true,
        senders: true,
        receipts: true,
    };

    /// Those that are not made, each in a line for people.
    pub(crate) fn omitted(self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.ids {
            lines.push(
                "not checked: one order for all members (ids are the server's own); each sender's is"
                    .to_owned(),
            );
        }
        if !self.senders {
            lines.push("not checked: who the server says has sent a message".to_owned());
        }
        if !self.receipts {
            lines.push("not checked: receipts, which were not asked for".to_owned());
        }
        lines
    }
}

impl Target {
    /// What the flags say, and the users' names, which are made of `prefix` where no token names them.
    ///
    /// # Errors
    /// [`Failure::Config`] where a file that a flag names is not what it should be.
    pub(crate) fn open(
        args: &TargetArgs,
        prefix: &str,
        users: usize,
    ) -> Result<(Self, Vec<String>), Failure> {
        let pass = Pass::open(&args.pass, &args.gateways)?;
        let (pass, names) = match &args.token_file {
            Some(path) => pass.with_tokens(path, users)?,
            None => {
                let names = (0..users).map(|user| format!("{prefix}-u{user}"));
                (pass, names.collect())
            }
        };
        Ok((Self::with_pass(args, pass), names))
    }

    /// What the flags say, for users who get in so.
    pub(crate) fn with_pass(args: &TargetArgs, pass: Pass) -> Self {
        let (send_to, subscribe_to) = match args.server {
            Server::Roomcast | Server::Spring => ("/app/rooms/{room}", "/topic/rooms/{room}"),
            Server::Rabbitmq => ("/topic/{room}", "/topic/{room}"),
        };
        let (login, passcode, vhost) = match args.server {
            Server::Roomcast => (Some("{user}"), None, None),
            Server::Spring => (None, None, None),
            Server::Rabbitmq => (Some("guest"), Some("guest"), Some("/")),
        };
        let is_ours = args.server == Server::Roomcast;
        let or = |given: &Option<String>, preset: Option<&str>| {
            given.clone().or_else(|| preset.map(str::to_owned))
        };
        let passcode = match &args.passcode {
            Some(passcode) => Some(passcode.0.clone()),
            None => passcode.map(str::to_owned),
        };
        let sources = args.sources.iter().flat_map(|range| range.0.clone());
        Self {
            gateways: args.gateways.clone(),
            pass,
            sources: Sources::new(sources.collect()),
            subprotocol: args.subprotocol.clone(),
            connect_timeout: args.connect_timeout,
            connect_rate: args.connect_rate,
            checks: Checks {
                ids: is_ours,
                senders: is_ours,
                receipts: !args.no_receipts && args.server != Server::Spring,
            },
            heartbeat: args.heartbeat,
            send_to: args.send_to.clone().unwrap_or_else(|| send_to.into()),
            subscribe_to: args
                .subscribe_to
                .clone()
                .unwrap_or_else(|| subscribe_to.into()),
            login: or(&args.login, login),
            passcode,
            vhost: or(&args.vhost, vhost),
            headers: args.headers.clone(),
            send_headers: args.send_headers.clone(),
            subscribe_headers: args.subscribe_headers.clone(),
        }
    }

    /// Whether it gives receipts.
    pub(crate) fn has_receipts(&self) -> bool {
        self.checks.receipts
    }

    /// Milliseconds between heart-beats of either side; 0 is none.
    pub(crate) fn beat_ms(&self) -> u32 {
        let ms = self.heartbeat.unwrap_or_default().as_millis();
        u32::try_from(ms).unwrap_or(u32::MAX)
    }

    /// CONNECT of a user.
    pub(crate) fn connect(&self, gateway: &GatewayUrl, user: &str) -> Bytes {
        let beat = self.beat_ms();
        let mut frame = Frame::new(Command::Connect)
            .with("accept-version", "1.2,1.1")
            .with("host", self.vhost.as_deref().unwrap_or(gateway.host()))
            .with("heart-beat", &format!("{beat},{beat}"));
        match self.pass.token(user) {
            Some(token) => frame = frame.with("Authorization", &format!("Bearer {token}")),
            None => {
                for (name, value) in [("login", &self.login), ("passcode", &self.passcode)] {
                    if let Some(value) = value {
                        frame = frame.with(name, &value.replace("{user}", user));
                    }
                }
            }
        }
        for Header { name, value } in &self.headers {
            frame = frame.with(name, &value.replace("{user}", user));
        }
        encode(&frame, Version::V1_2)
    }

    /// SUBSCRIBE of a user to a room.
    pub(crate) fn subscribe(&self, user: &str, room: &str, after: Option<&str>) -> Bytes {
        let mut frame = Frame::new(Command::Subscribe)
            .with("id", "0")
            .with("destination", &filled(&self.subscribe_to, user, room));
        if self.has_receipts() {
            frame = frame.with("receipt", "subscribed");
        }
        if let Some(after) = after {
            frame = frame.with("after", after);
        }
        for Header { name, value } in &self.subscribe_headers {
            frame = frame.with(name, value);
        }
        encode(&frame, Version::V1_2)
    }

    /// The start of a user's SEND to a room, up to the headers that differ from message to message.
    pub(crate) fn send_head(
        &self,
        user: &str,
        room: &str,
        receipt_after: Option<ReceiptAfter>,
    ) -> Vec<u8> {
        let mut frame = Frame::new(Command::Send)
            .with("destination", &filled(&self.send_to, user, room))
            .with("content-type", "text/plain");
        if let Some(after) = receipt_after {
            frame = frame.with("receipt-after", after.as_str());
        }
        for Header { name, value } in &self.send_headers {
            frame = frame.with(name, value);
        }
        let mut octets = encode(&frame, Version::V1_2).to_vec();
        // Without the empty line and the NUL: headers follow.
        octets.truncate(octets.len() - 2);
        octets
    }
}

fn filled(template: &str, user: &str, room: &str) -> String {
    template.replace("{user}", user).replace("{room}", room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(change: impl FnOnce(&mut TargetArgs)) -> Target {
        let mut args = TargetArgs::new(vec!["ws://chat.example:81/ws".parse().unwrap()]);
        change(&mut args);
        Target::open(&args, "load", 1).unwrap().0
    }

    #[test]
    fn a_preset_says_what_flags_do_not() {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let ours = target(|_| ());
        let connect = text(&ours.connect(&ours.gateways[0], "kim"));
        assert!(connect.contains("\nhost:chat.example\n"), "{connect}");
        assert!(connect.contains("\nlogin:kim\n"), "{connect}");
        assert!(connect.contains("\nheart-beat:0,0\n"), "{connect}");
        assert_eq!(ours.checks, Checks::ALL);

        let rabbit = target(|args| {
            args.server = Server::Rabbitmq;
            args.subscribe_to = Some("/exchange/amq.topic/{room}".into());
            args.headers = vec!["client:{user}".parse().unwrap()];
            args.subscribe_headers = vec!["ack:auto".parse().unwrap()];
            args.send_headers = vec!["persistent:true".parse().unwrap()];
        });
        let connect = text(&rabbit.connect(&rabbit.gateways[0], "kim"));
        for line in ["host:/", "login:guest", "passcode:guest", "client:kim"] {
            assert!(connect.contains(&format!("\n{line}\n")), "{connect}");
        }
        let subscribe = text(&rabbit.subscribe("kim", "r1", None));
        assert!(
            subscribe.contains("\ndestination:/exchange/amq.topic/r1\n"),
            "{subscribe}"
        );
        assert!(subscribe.contains("\nack:auto\n"), "{subscribe}");
        let send = text(&rabbit.send_head("kim", "r1", None));
        assert!(send.starts_with("SEND\ndestination:/topic/r1\n"), "{send}");
        assert!(send.ends_with("\npersistent:true\n"), "{send}");
        assert!(rabbit.has_receipts() && !rabbit.checks.ids);

        let spring = target(|args| args.server = Server::Spring);
        assert!(!spring.has_receipts());
        assert!(!text(&spring.subscribe("kim", "r1", None)).contains("receipt"));
        assert_eq!(spring.checks.omitted().len(), 3);
    }

    #[test]
    fn secrets_are_not_shown() {
        let target = target(|args| {
            args.passcode = Some("s3cret".parse().unwrap());
            args.headers = vec!["token:s3cret".parse().unwrap()];
            let shown = format!("{args:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        });
        assert_eq!(target.passcode.as_deref(), Some("s3cret"));
    }
}
