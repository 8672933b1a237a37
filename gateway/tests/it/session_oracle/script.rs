//! Octets as events. What an octet means stays as it is, so that the kept corpus keeps its meaning.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use clap::Parser;
use gateway::close::CloseReason;
use gateway::config::{GatewayArgs, Settings};
use gateway::transport::TransportName;
use shared::broker::{Guarantees, PublishError};
use shared::message::{MessageId, Stamp};

use super::world::{Page, World};

/// The flags that a session may run with.
const FLAGS: [&[&str]; 4] = [
    &[],
    &[
        "--max-subscriptions=2",
        "--max-frame-bytes=1KiB",
        "--max-history=3",
        "--max-unacknowledged=2",
        "--max-transactions=2",
        "--max-transaction-frames=3",
    ],
    &[
        "--send-rate=2",
        "--send-burst=3",
        "--connect-deadline=2s",
        "--control-rate=2",
    ],
    &[
        "--receipt-after=stored",
        "--heartbeat=0s",
        "--max-unacknowledged=1",
        "--frame-deadline=5s",
    ],
];

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// How a world begins.
pub(crate) struct Setup {
    pub(crate) settings: Arc<Settings>,
    pub(crate) guarantees: Guarantees,
    pub(crate) transport: TransportName,
    /// The client has sent its CONNECT already.
    pub(crate) connects: bool,
}

/// How the world begins: one octet. What is missing of a script is zeros.
pub(crate) fn setup(script: &mut Unstructured<'_>) -> Setup {
    static SETTINGS: OnceLock<Vec<Arc<Settings>>> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        let flags = FLAGS.iter().map(|flags| {
            let flags = Flags::parse_from(["gateway"].iter().chain(*flags));
            Arc::new(Settings::from_args(&flags.gateway).expect("flags that are valid"))
        });
        flags.collect()
    });
    let how = script.arbitrary::<u8>().unwrap_or_default();
    Setup {
        settings: Arc::clone(&settings[usize::from(how & 3)]),
        guarantees: Guarantees {
            journaled: how & 16 == 0,
            durable: how & 32 == 0,
        },
        transport: match how & 64 {
            0 => TransportName::WebSocket,
            _ => TransportName::XhrStreaming,
        },
        connects: how & 128 == 0,
    }
}

/// Carries out one event. A script that ends within one has zeros there.
pub(crate) fn step(script: &mut Unstructured<'_>, world: &mut World) {
    let Ok(op) = script.arbitrary::<u8>() else {
        return;
    };
    if op & 0x20 == 0 {
        let mut frame = Vec::new();
        if say(op & 0x1f, script, world, &mut frame).is_err() {
            return;
        }
        let times = if op & 0x80 == 0 {
            1
        } else {
            1 + octet(script) % 64
        };
        let held = if op & 0x40 == 0 { 0 } else { octet(script) };
        world.say(&frame.repeat(times), held);
    } else {
        happen(op & 0x1f, script, world);
    }
}

/// A frame of the client, mostly a well-formed one.
fn say(op: u8, script: &mut Unstructured<'_>, world: &World, out: &mut Vec<u8>) -> Result<()> {
    let mut frame = match op {
        0..=5 => send(script, world),
        30..=31 => send_elsewhere(script),
        6..=9 => subscribe(script, world),
        10..=11 => format!("UNSUBSCRIBE\nid:{}\n", octet(script) % 4),
        12..=14 => acknowledge("ACK", script, world),
        15..=16 => acknowledge("NACK", script, world),
        17..=18 => format!("BEGIN\ntransaction:t{}\n", octet(script) % 3),
        19..=20 => format!("COMMIT\ntransaction:t{}\n", octet(script) % 3),
        21 => format!("ABORT\ntransaction:t{}\n", octet(script) % 3),
        22 => "DISCONNECT\n".to_owned(),
        23..=25 => connect(script),
        26..=27 => {
            let ends: [&[u8]; 4] = [b"\n", b"\r\n", b"\n\n", b"\r"];
            out.extend_from_slice(script.choose(&ends)?);
            return Ok(());
        }
        28 => {
            let length = octet(script) % 32;
            out.extend_from_slice(script.bytes(length.min(script.len()))?);
            return Ok(());
        }
        29 => {
            let odd = [
                "MESSAGE\n",
                "SUBSCRIBE\nid:0\n",
                "SEND\n",
                "SEND\ndestination:/elsewhere\n",
                "SUBSCRIBE\nid:0\ndestination:/topic/**\n",
                "UNSUBSCRIBE\n",
                "ACK\n",
                "BEGIN\n",
                "SUBSCRIBE\nid:1\ndestination:/topic/rooms/a\nack:maybe\n",
                "SUBSCRIBE\nid:1\ndestination:/topic/rooms/a\nhistory:-1\n",
                "SUBSCRIBE\ndestination:/topic/rooms/a\n",
                "UNSUBSCRIBE\ndestination:/topic/rooms/a\n",
                "SEND\ndestination:/app/rooms/a\nreceipt-after:soon\n",
                "SEND\ndestination:/app/rooms/a\nidempotency-key:\n",
                "HELLO\n",
                "SUBSCRIBE\r\nid:2\r\ndestination:/topic/rooms/b\r\n",
            ];
            (*script.choose(&odd)?).to_owned()
        }
        _ => return Ok(()),
    };
    let receipt = octet(script);
    if receipt & 1 == 1 {
        frame.push_str(&format!("receipt:{}", receipt >> 1));
        if matches!(op, 6..=9) {
            // Which of two subscriptions is live must not be in doubt.
            frame.push_str(&format!("-{}", script.len()));
        }
        frame.push('\n');
    }
    out.extend_from_slice(frame.as_bytes());
    out.push(b'\n');
    if matches!(op, 0..=5 | 30..=31) {
        // Numbered, so that what is published out of order is seen.
        out.extend_from_slice(format!("{}", script.len()).as_bytes());
    }
    out.push(0);
    Ok(())
}

fn send(script: &mut Unstructured<'_>, _world: &World) -> String {
    let how = octet(script);
    let room = if how & 1 == 0 { "a" } else { "b" };
    let mut frame = format!("SEND\ndestination:/app/rooms/{room}\n");
    match how >> 1 & 7 {
        1..=3 => frame.push_str(&format!("transaction:t{}\n", (how >> 1 & 7) - 1)),
        4 => frame.push_str("receipt-after:stored\n"),
        5 => frame.push_str("receipt-after:accepted\n"),
        6 => frame.push_str("idempotency-key:k\n"),
        7 => frame.push_str(&format!("filler:{}\n", "x".repeat(16 * octet(script)))),
        _ => {}
    }
    frame
}

/// A SEND that is not stored like those of a room: to a user's queue, or for those who listen.
fn send_elsewhere(script: &mut Unstructured<'_>) -> String {
    let how = octet(script);
    let mut frame = match how & 3 {
        0 => "SEND\ndestination:/user/kim/queue/q\n".to_owned(),
        1 => "SEND\ndestination:/user/kim/queue/q\npersist:true\n".to_owned(),
        2 => "SEND\ndestination:/app/rooms/a\nephemeral:true\n".to_owned(),
        _ => "SEND\ndestination:/app/rooms/b\nephemeral:true\n".to_owned(),
    };
    if let more @ 1..=3 = how >> 2 & 7 {
        frame.push_str(&format!("transaction:t{}\n", more - 1));
    }
    frame
}

fn subscribe(script: &mut Unstructured<'_>, world: &World) -> String {
    let (how, more) = (octet(script), octet(script));
    let room = if how & 1 == 0 { "a" } else { "b" };
    let mut frame = format!(
        "SUBSCRIBE\nid:{}\ndestination:/topic/rooms/{room}\n",
        how >> 1 & 3
    );
    frame.push_str(match how >> 3 & 3 {
        1 => "ack:client\n",
        2 => "ack:client-individual\n",
        3 => "ack:auto\n",
        _ => "",
    });
    match how >> 5 & 3 {
        1 => frame.push_str(&format!("history:{more}\n")),
        2 => {
            let seen = world.seen.iter().rev().nth(more);
            let id = seen.and_then(|frame| frame.header("message-id"));
            let id = id.map_or_else(|| message_id(more).to_string(), str::to_owned);
            frame.push_str(&format!("after:{id}\n"));
        }
        _ => {}
    }
    frame
}

fn acknowledge(command: &str, script: &mut Unstructured<'_>, world: &World) -> String {
    let (how, back) = (octet(script), octet(script));
    let seen = world.seen.iter().rev().nth(back);
    let header = |name| seen.and_then(|frame| frame.header(name)).unwrap_or("0");
    // Every version's headers at once: each reads its own.
    let mut frame = format!(
        "{command}\nid:{}\nmessage-id:{}\nsubscription:{}\n",
        header("ack"),
        header("message-id"),
        header("subscription"),
    );
    if how & 3 != 0 {
        frame.push_str(&format!("transaction:t{}\n", (how & 3) - 1));
    }
    frame
}

fn connect(script: &mut Unstructured<'_>) -> String {
    let how = octet(script);
    let versions = [
        "1.2",
        "1.1",
        "1.0",
        "1.0,1.1,1.2",
        "1.2",
        "1.1,2.0",
        "2.0",
        "",
    ];
    let beats = [
        "0,0",
        "1000,1000",
        "10000,10000",
        "0,1000",
        "1000,0",
        "1,1",
        "60000,5000",
        "x",
    ];
    let version = versions[how & 7];
    let command = if how & 64 == 0 { "CONNECT" } else { "STOMP" };
    let mut frame = format!("{command}\nheart-beat:{}\n", beats[how >> 3 & 7]);
    if !version.is_empty() {
        frame.push_str(&format!("accept-version:{version}\n"));
    }
    if how & 128 != 0 {
        frame.push_str("login:kim\n");
    }
    frame
}

/// What happens to the session from other sides than its client's.
fn happen(op: u8, script: &mut Unstructured<'_>, world: &mut World) {
    match op {
        0..=3 => world.answer(octet(script), Ok(true)),
        4 => {
            let answers = [
                Ok(false),
                Err(PublishError::Full),
                Err(PublishError::Overloaded),
                Err(PublishError::Unavailable),
            ];
            let how = octet(script);
            world.answer(how >> 2, answers[how & 3].clone());
        }
        5..=7 => world.confirm(octet(script), true),
        8 => world.confirm(octet(script), false),
        9..=11 => world.page(octet(script), Page::Whole),
        12 => world.page(octet(script), Page::Holed),
        13 => world.page(octet(script), Page::Failed),
        14..=18 => {
            let how = octet(script);
            let room = if how & 1 == 0 { "a" } else { "b" };
            let bodies: [&'static [u8]; 4] = [b"hi", b"", b"a\0b", b"\xff"];
            for _ in 0..1 + (how >> 3) {
                world.speak(room, bodies[how >> 1 & 3].into());
            }
        }
        19 => {
            let how = octet(script);
            world.repeat(if how & 1 == 0 { "a" } else { "b" }, how >> 1);
        }
        20 => world.pass(Duration::from_millis(10 * octet(script) as u64)),
        21 => world.pass(Duration::from_secs(octet(script) as u64 % 64)),
        22 => world.pass_until_due(),
        23 => world.hear(),
        24..=25 => world.toggle_stuck(),
        26 => world.drain(),
        27 => {
            let reasons = [
                CloseReason::SlowConsumer,
                CloseReason::FrameTooLarge,
                CloseReason::ProtocolError,
                CloseReason::GapUnrepaired,
            ];
            world.cut(reasons[octet(script) & 3]);
        }
        28..=29 => world.answer_all(),
        30 => {
            let how = octet(script);
            world.whisper(if how & 1 == 0 { "a" } else { "b" }, how as u64 >> 1);
        }
        _ => {}
    }
}

fn octet(script: &mut Unstructured<'_>) -> usize {
    script.arbitrary::<u8>().unwrap_or_default().into()
}

fn message_id(ms: usize) -> MessageId {
    MessageId::new(
        Stamp {
            ms: ms as u64,
            seq: 0,
        },
        0,
    )
}
