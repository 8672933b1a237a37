//! The flags of what is loaded, and of how this program reaches it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::config::positive_duration;

use super::{GatewayUrl, rate};
use crate::pass::PassArgs;
use crate::wire::SourceRange;

/// Flags of what is loaded.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// WebSocket URL of a gateway, ws://HOST:PORT/ws or wss://HOST:PORT/ws; may be repeated.
    ///
    /// The members of each room are spread over all of them.
    #[arg(
        long = "gateway",
        visible_alias = "url",
        value_name = "URL",
        required = true
    )]
    pub gateways: Vec<GatewayUrl>,

    /// What kind of server it is: sets the destinations, login and checks below.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Server::Roomcast)]
    pub server: Server,

    /// Where messages are sent to, with {room} and, if need be, {user}
    /// [roomcast, spring: /app/rooms/{room}; rabbitmq: /topic/{room}].
    #[arg(long, value_name = "TEMPLATE", value_parser = template)]
    pub send_to: Option<String>,

    /// What members subscribe to, with {room} and, if need be, {user}
    /// [roomcast, spring: /topic/rooms/{room}; rabbitmq: /topic/{room}].
    #[arg(long, value_name = "TEMPLATE", value_parser = template)]
    pub subscribe_to: Option<String>,

    /// `login` of CONNECT; may have {user} [roomcast: {user}; rabbitmq: guest].
    #[arg(long, value_name = "NAME")]
    pub login: Option<String>,

    /// `passcode` of CONNECT [rabbitmq: guest].
    #[arg(long, value_name = "TEXT")]
    pub passcode: Option<Passcode>,

    /// `host` of CONNECT [rabbitmq: /; others: the URL's host].
    #[arg(long, value_name = "NAME")]
    pub vhost: Option<String>,

    /// One more header of CONNECT, NAME:VALUE with {user} if need be; may be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub headers: Vec<Header>,

    /// One more header of every SEND, such as persistent:true; may be repeated.
    #[arg(long = "send-header", value_name = "NAME:VALUE")]
    pub send_headers: Vec<Header>,

    /// One more header of every SUBSCRIBE, such as ack:auto; may be repeated.
    #[arg(long = "subscribe-header", value_name = "NAME:VALUE")]
    pub subscribe_headers: Vec<Header>,

    /// WebSocket subprotocols to offer, separated by commas.
    #[arg(long, value_name = "NAMES", default_value = "v12.stomp", value_parser = token_list)]
    pub subprotocol: String,

    /// Ask for no receipts: neither those of messages nor those of subscriptions are checked. Spring's
    /// simple broker gives none.
    ///
    /// That everybody is subscribed is then found out by messages that are not counted.
    #[arg(long)]
    pub no_receipts: bool,

    /// Address that connections leave from, or a range such as 127.0.0.2-127.0.0.9; may be repeated,
    /// and is taken in turn. Each has about 28,000 ports for each gateway.
    #[arg(long = "source", value_name = "ADDRESS")]
    pub sources: Vec<SourceRange>,

    /// Connections opened a second; without it, as fast as 64 at a time get in.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub connect_rate: Option<f64>,

    /// How long a connection may take until it is subscribed.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    pub connect_timeout: Duration,

    /// Heart-beats of both sides; without it there are none.
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub heartbeat: Option<Duration>,

    /// File with a token for each user, one a line; its `sub` is the user's name.
    #[arg(long, value_name = "FILE", conflicts_with = "token_secret")]
    pub token_file: Option<PathBuf>,

    /// How users get in.
    #[command(flatten)]
    pub pass: PassArgs,

    /// Threads that listen; one more sends. Members of a room share one [default: half the cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Roomcast: everything is checked.
    Roomcast,
    /// RabbitMQ with Web-STOMP, ws://HOST:15674/ws.
    Rabbitmq,
    /// Spring with its simple broker, which gives no receipts.
    Spring,
}

/// A header that is sent as it is given. `Debug` does not show its value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a login is proved with. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passcode(pub String);

impl TargetArgs {
    /// These gateways, with everything else as it is without a flag.
    pub(crate) fn new(gateways: Vec<GatewayUrl>) -> Self {
        Self {
            gateways,
            server: Server::Roomcast,
            send_to: None,
            subscribe_to: None,
            login: None,
            passcode: None,
            vhost: None,
            headers: Vec::new(),
            send_headers: Vec::new(),
            subscribe_headers: Vec::new(),
            subprotocol: "v12.stomp".into(),
            no_receipts: false,
            sources: Vec::new(),
            connect_rate: None,
            connect_timeout: Duration::from_secs(30),
            heartbeat: None,
            token_file: None,
            pass: PassArgs::default(),
            threads: None,
        }
    }
}

impl FromStr for Header {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((name, value)) if !name.is_empty() && !text.contains(['\r', '\n', '\0']) => {
                Ok(Self {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err("a name and a value are needed, such as persistent:true"),
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.name)
    }
}

impl FromStr for Passcode {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Passcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passcode(…)")
    }
}

fn template(text: &str) -> Result<String, &'static str> {
    match text.contains("{room}") {
        true => Ok(text.to_owned()),
        false => Err("a destination with {room} in it is needed, such as /topic/{room}"),
    }
}

fn token_list(text: &str) -> Result<String, &'static str> {
    let is_token = |octet: u8| octet.is_ascii_graphic() || octet == b' ';
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(text.to_owned()),
        false => Err("names separated by commas are needed, such as v12.stomp"),
    }
}
