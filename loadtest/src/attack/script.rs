//! What each kind of hostile client does, as data.

use super::kind::Kind;
use super::octets::{self, FIN, HALF_HELLO, Opcode, RSV1, UPGRADE};

/// How many pings, or empty fragments, are sent at once: more than `--control-rate` lets pass.
const FLOOD: usize = 1500;

/// How many headers a bomb has.
const BOMB: usize = 10_000;

/// How many rooms one client subscribes to: fewer than the default of `--max-subscriptions`.
const ROOMS: usize = 200;

/// What one hostile client does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Step by step.
    pub(super) steps: Vec<Step>,
    /// What it does then, until it is released.
    pub(super) then: Then,
}

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends these octets.
    Say(Vec<u8>),
    /// Waits for 101.
    Upgraded,
    /// Waits for CONNECTED.
    Connected,
}

/// What goes on.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// Nothing.
    Wait,
    /// One of these pieces each second, from the first again after the last.
    Drip(Vec<Vec<u8>>),
    /// It vanishes with a reset.
    Vanish,
}

/// What the scripts have in common.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// The beginning of rooms' and users' names.
    pub(super) prefix: String,
    /// Tokens that prove nothing, where there are tokens.
    pub(super) tokens: Vec<String>,
}

impl Stage {
    /// The room that is busy.
    pub(super) fn busy_room(&self) -> String {
        format!("{}-busy", self.prefix)
    }

    /// What the client of this number does. Where a kind has two ways, odd numbers take the other.
    pub(super) fn script(&self, kind: Kind, number: usize) -> Script {
        let is_odd = number % 2 == 1;
        let user = format!("{}-h{number}", self.prefix);
        let half = |text: &str| text.as_bytes()[..text.len() / 2].to_vec();
        let upgraded = || vec![Step::Say(ended(UPGRADE)), Step::Upgraded];
        let connected = || {
            let connect = octets::text(&octets::connect(&user, ""));
            [upgraded(), vec![Step::Say(connect), Step::Connected]].concat()
        };
        let (steps, then) = match kind {
            Kind::Silent => (vec![], Then::Wait),
            Kind::SlowHeaders => {
                let line = b"GET / HTTP/1.1\r\nHost: attack\r\n".to_vec();
                (vec![Step::Say(line)], drip(b"X-Slow: loris\r\n"))
            }
            Kind::HalfUpgrade => (vec![Step::Say(half(UPGRADE))], Then::Wait),
            Kind::NoConnect => (upgraded(), Then::Wait),
            Kind::SlowConnect => {
                let connect = octets::connect(&user, "");
                let pieces = match is_odd {
                    false => return Script::new(upgraded(), drip(&octets::text(&connect))),
                    true => connect.bytes().enumerate().map(|(at, octet)| {
                        let opcode = match at {
                            0 => Opcode::Text,
                            _ => Opcode::Continuation,
                        };
                        [octets::head(0, opcode, 1), vec![octet]].concat()
                    }),
                };
                (upgraded(), Then::Drip(pieces.collect()))
            }
            Kind::HalfFrame => {
                let room = self.busy_room();
                let send = format!(
                    "SEND\ndestination:/app/rooms/{room}\ncontent-length:40000\n\n{}",
                    "x".repeat(20_000)
                );
                let sent = match is_odd {
                    false => {
                        let whole = send.len() as u64 + 20_001;
                        [octets::head(FIN, Opcode::Text, whole), send.into()].concat()
                    }
                    true => octets::text(&send),
                };
                ([connected(), vec![Step::Say(sent)]].concat(), Then::Wait)
            }
            Kind::PingFlood => {
                let ping = [octets::head(FIN, Opcode::Ping, 16), vec![b'p'; 16]].concat();
                (connected(), Then::Drip(vec![ping.repeat(FLOOD)]))
            }
            Kind::EmptyFragments => {
                let begin = octets::head(0, Opcode::Text, 0);
                let more = octets::head(0, Opcode::Continuation, 0).repeat(FLOOD);
                let steps = [connected(), vec![Step::Say(begin)]].concat();
                (steps, Then::Drip(vec![more]))
            }
            Kind::HugeFrame => {
                let length = if is_odd { 70_000 } else { 1 << 62 };
                let head = octets::head(FIN, Opcode::Text, length);
                let sent = [head, vec![b'x'; 70_000]].concat();
                ([connected(), vec![Step::Say(sent)]].concat(), Then::Wait)
            }
            Kind::Compressed => {
                let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
                let request = ended(&format!("{UPGRADE}{extension}"));
                // What it would become makes no difference: nobody agreed to decompress it.
                let sent = [octets::head(FIN | RSV1, Opcode::Text, 4096), vec![0; 4096]].concat();
                let steps = vec![Step::Say(request), Step::Upgraded, Step::Say(sent)];
                (steps, Then::Wait)
            }
            Kind::HeaderBomb => {
                let lines = |end: &str| {
                    let lines = (0..BOMB).map(|at| format!("x-{at}:{}{end}", "b".repeat(90)));
                    lines.collect::<String>()
                };
                match is_odd {
                    false => {
                        let request = format!("{UPGRADE}{}", lines("\r\n"));
                        (vec![Step::Say(ended(&request))], Then::Wait)
                    }
                    true => {
                        let connect = octets::connect(&user, &lines("\n"));
                        // In messages, each of which is as large as it may be.
                        let parts = connect.as_bytes().chunks(60_000).map(|part| {
                            let head = octets::head(FIN, Opcode::Text, part.len() as u64);
                            [head, part.to_vec()].concat()
                        });
                        let bomb = Step::Say(parts.collect::<Vec<_>>().concat());
                        ([upgraded(), vec![bomb]].concat(), Then::Wait)
                    }
                }
            }
            Kind::SlowReader => {
                let subscribe = octets::text(&octets::subscribe(0, &self.busy_room()));
                let steps = [connected(), vec![Step::Say(subscribe)]].concat();
                (steps, Then::Wait)
            }
            Kind::StalledBody => {
                let request = format!(
                    "POST /api/rooms/{}/messages HTTP/1.1\r\nHost: attack\r\n\
                     Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{}",
                    self.busy_room(),
                    "x".repeat(10_000)
                );
                (vec![Step::Say(request.into())], Then::Wait)
            }
            Kind::SockjsSessions => {
                let request = format!(
                    "POST /sockjs/000/{user}/xhr HTTP/1.1\r\nHost: attack\r\n\
                     Connection: close\r\nContent-Length: 0\r\n\r\n"
                );
                (vec![Step::Say(request.into())], Then::Wait)
            }
            Kind::BadTokens => {
                let token = match self.tokens.get(number % self.tokens.len().max(1)) {
                    Some(token) => token,
                    None => "garbage",
                };
                let line = format!("Authorization:Bearer {token}\n");
                let connect = octets::text(&octets::connect(&user, &line));
                ([upgraded(), vec![Step::Say(connect)]].concat(), Then::Wait)
            }
            Kind::ReconnectStorm => (connected(), Then::Vanish),
            Kind::TlsHalf => (vec![Step::Say(HALF_HELLO.to_vec())], Then::Wait),
            Kind::SubscribeFlood => {
                let frames = (0..ROOMS).map(|room| {
                    let name = format!("{}-{number}-{room}", self.prefix);
                    octets::text(&octets::subscribe(room, &name))
                });
                let flood = Step::Say(frames.collect::<Vec<_>>().concat());
                ([connected(), vec![flood]].concat(), Then::Wait)
            }
        };
        Script::new(steps, then)
    }
}

impl Script {
    fn new(steps: Vec<Step>, then: Then) -> Self {
        Self { steps, then }
    }
}

fn ended(request: &str) -> Vec<u8> {
    format!("{request}\r\n").into()
}

fn drip(octets: &[u8]) -> Then {
    Then::Drip(octets.iter().map(|octet| vec![*octet]).collect())
}
