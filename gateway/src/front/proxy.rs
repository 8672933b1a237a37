//! Version 2 of the PROXY protocol: who a proxy says that it speaks for.
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>, section 2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, the version and command, the family, and the length of the rest.
const FIXED: usize = 16;

/// The most octets of addresses and of what follows them. The specification says that a header
/// fits 536 octets in all, which the smallest segment of TCP over IPv4 carries.
const MOST: usize = 536 - FIXED;

/// Why what a connection began with is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection ended or broke within it.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// It begins with something else.
    #[error("the connection does not begin with a header of the PROXY protocol, version 2")]
    Missing,
    /// It is one of version 1, which is text.
    #[error("the header is of version 1 of the PROXY protocol; let the proxy send version 2")]
    VersionOne,
    /// Neither version, command nor family may be so.
    #[error("version and command {0:#04x}, family {1:#04x} are unknown")]
    Unknown(u8, u8),
    /// There is less in it than its family has, or more than any proxy sends.
    #[error("{0} octets of addresses do not fit")]
    Length(usize),
}

/// Reads a header, and nothing of what follows it. Gives where the client is; `None` when the proxy
/// speaks for itself (LOCAL), or for somebody without an address.
///
/// # Errors
/// [`ProxyError`] as soon as what comes is no header. The caller bounds the time.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; FIXED];
    let mut read = 0;
    while read < FIXED {
        let more = stream.read(&mut fixed[read..]).await?;
        if more == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        read += more;
        let begun = &fixed[..read.min(SIGNATURE.len())];
        if !SIGNATURE.starts_with(begun) {
            return Err(match begun.starts_with(b"PROXY") {
                true => ProxyError::VersionOne,
                false => ProxyError::Missing,
            });
        }
    }
    let [.., command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST {
        return Err(ProxyError::Length(length));
    }
    let mut rest = [0; MOST];
    let rest = &mut rest[..length];
    stream.read_exact(rest).await?;
    match (command, family) {
        // LOCAL: whatever else it says is not looked at.
        (0x20, _) => Ok(None),
        // Not said, or a Unix socket.
        (0x21, 0x00 | 0x31) => Ok(None),
        // Source, destination, and a port of each; TLVs may follow.
        (0x21, 0x11) => match *rest {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                let address = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
                Ok(Some((address, u16::from_be_bytes([high, low])).into()))
            }
            _ => Err(ProxyError::Length(length)),
        },
        (0x21, 0x21) => match (rest.first_chunk::<16>(), rest.get(32..36)) {
            (Some(address), Some(&[high, low, _, _])) => {
                let address = Ipv6Addr::from(*address).to_canonical();
                Ok(Some((address, u16::from_be_bytes([high, low])).into()))
            }
            _ => Err(ProxyError::Length(length)),
        },
        _ => Err(ProxyError::Unknown(command, family)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 1, 187];

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn reading(octets: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let mut left = octets;
        let read = read(&mut left).await;
        (read, left.len())
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_what_follows_is_left_alone() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&[0, 80]);
        let mut mapped = v6;
        mapped[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        let extended = [&V4[..], &[0x04; 500]].concat();
        for (header, client) in [
            (header(0x21, 0x11, &V4), Some("192.0.2.7:8080")),
            (header(0x21, 0x11, &extended), Some("192.0.2.7:8080")),
            (header(0x21, 0x21, &v6), Some("[2001:db8::7]:80")),
            (header(0x21, 0x21, &mapped), Some("192.0.2.7:80")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x20, 0xff, &[1]), None),
            (header(0x21, 0x00, &V4), None),
            (header(0x21, 0x31, &[7; 216]), None),
        ] {
            let client = client.map(|text| text.parse().unwrap());
            let (read, left) = reading(&[&header[..], b"GET /"].concat()).await;
            assert_eq!((read.unwrap(), left), (client, 5));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_at_its_first_wrong_octet() {
        for octets in [&b"G"[..], b"\r\n\r\nX", b"\x16\x03\x01", b"PRI * HTTP/2.0"] {
            let (read, _) = reading(octets).await;
            assert!(matches!(read, Err(ProxyError::Missing)), "{octets:?}");
        }
        let (read, _) = reading(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n").await;
        assert!(matches!(read, Err(ProxyError::VersionOne)));
        for (command, family) in [
            (0x11, 0x11),
            (0x31, 0x11),
            (0x22, 0x11),
            (0x21, 0x12),
            (0x21, 0x41),
        ] {
            let (read, _) = reading(&header(command, family, &V4)).await;
            assert!(matches!(read, Err(ProxyError::Unknown(..))), "{command:x}");
        }
    }

    #[tokio::test]
    async fn a_header_has_room_for_its_addresses_and_is_no_longer_than_any_proxy_sends() {
        for (family, length) in [(0x11, 11), (0x21, 12), (0x21, 35), (0x11, 521)] {
            let (read, _) = reading(&header(0x21, family, &vec![0; length])).await;
            assert!(
                matches!(read, Err(ProxyError::Length(told)) if told == length),
                "{length}"
            );
        }
        // One that is too long is not read first.
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(reading(&long).await.0, Err(ProxyError::Length(_))));
    }

    #[tokio::test]
    async fn a_header_that_breaks_off_is_none() {
        let whole = header(0x21, 0x11, &V4);
        for length in 0..whole.len() {
            let (read, _) = reading(&whole[..length]).await;
            assert!(matches!(read, Err(ProxyError::Broken(_))), "{length}");
        }
    }
}
