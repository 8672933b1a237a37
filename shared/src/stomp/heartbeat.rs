//! How often each side of a connection shows that it lives (STOMP 1.2, Heart-beating).

use std::time::Duration;

/// What two sides have agreed on, seen from one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The longest that this side may be silent; `None`: it need not send heart-beats.
    pub outgoing: Option<Duration>,
    /// The longest that the other side should be silent; `None`: it need not send heart-beats.
    pub incoming: Option<Duration>,
}

/// A `heart-beat` header that is not two numbers of milliseconds with a comma between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("heart-beat must be two numbers of milliseconds, such as 10000,10000")]
pub struct InvalidHeartBeat;

/// Reads a `heart-beat` header: what its author can send and what it wants to get, each in
/// milliseconds, 0 for never.
///
/// # Errors
/// [`InvalidHeartBeat`] when it is anything but two numbers below 2³² with a comma between them.
pub fn parse_header(value: &str) -> Result<(u32, u32), InvalidHeartBeat> {
    let (can, want) = value.split_once(',').ok_or(InvalidHeartBeat)?;
    let number = |text: &str| {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidHeartBeat);
        }
        text.parse().map_err(|_| InvalidHeartBeat)
    };
    Ok((number(can)?, number(want)?))
}

/// What follows from both sides' offers (can send, wants to get), seen from the server: each
/// direction takes the longer of the two intervals, and a 0 on either side switches it off. A
/// client gets its own view by putting its own offer first.
pub fn negotiate(server: (u32, u32), client: (u32, u32)) -> HeartBeat {
    let interval = |can: u32, want: u32| {
        (can != 0 && want != 0).then(|| Duration::from_millis(can.max(want).into()))
    };
    HeartBeat {
        outgoing: interval(server.0, client.1),
        incoming: interval(client.0, server.1),
    }
}
