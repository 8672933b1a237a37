//! What hostile clients put on the wire: HTTP requests, WebSocket frames, STOMP frames.

/// A request for a WebSocket, to its last header and without the empty line.
pub(super) const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: attack\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: v12.stomp\r\n";

/// The beginning of a ClientHello (RFC 8446, section 4.1.2): a record of 508 octets, of which the
/// versions and some of the random ones have come.
pub(super) const HALF_HELLO: [u8; 20] = [
    0x16, 0x03, 0x01, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8, 0x03, 0x03, 7, 7, 7, 7, 7, 7, 7, 7, 7,
];

/// What begins a frame (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Ping = 9,
}

/// The beginning of a frame that announces `length` octets, masked by zeros: the payload is what it
/// looks like. `first` has FIN and the reserved bits.
pub(super) fn head(first: u8, opcode: Opcode, length: u64) -> Vec<u8> {
    let mut head = vec![first | opcode as u8];
    match length {
        0..=125 => head.push(0x80 | length as u8),
        126..=0xffff => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

/// FIN, and none of the reserved bits.
pub(super) const FIN: u8 = 0x80;

/// RSV1, which says compressed where that was agreed (RFC 7692, section 6).
pub(super) const RSV1: u8 = 0x40;

/// A whole message of text.
pub(super) fn text(payload: &str) -> Vec<u8> {
    let mut frame = head(FIN, Opcode::Text, payload.len() as u64);
    frame.extend(payload.as_bytes());
    frame
}

/// CONNECT, as `user` and with further header lines.
pub(super) fn connect(user: &str, lines: &str) -> String {
    format!("CONNECT\naccept-version:1.2\nhost:attack\nlogin:{user}\n{lines}\n\0")
}

/// SUBSCRIBE to a room.
pub(super) fn subscribe(id: usize, room: &str) -> String {
    format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\n\n\0")
}
