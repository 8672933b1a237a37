//! From nothing to an open WebSocket.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlimit::Resource;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::GatewayUrl;
use crate::connection::ClientError;
use crate::pass::Octets;
use crate::target::Target;

/// The largest answer to the opening, in octets.
const MAX_ANSWER: usize = 16 << 10;

/// The ports that the kernel gives where it says nothing else.
const PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Addresses and ports that connections leave from, each in turn.
///
/// The kernel would choose a port too, but once half of its range is taken it looks through all of that
/// half first, which takes a millisecond for each connection (1,000 times what the rest of it takes).
#[derive(Debug)]
pub(crate) struct Sources {
    addresses: Vec<IpAddr>,
    ports: RangeInclusive<u16>,
    next: AtomicUsize,
}

impl Sources {
    /// These addresses; none leaves it to the kernel which one.
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Self {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        Self {
            addresses,
            ports: range.ok().and_then(|it| ports(&it)).unwrap_or(PORTS),
            // Where several processes share an address, they should not all begin at the same port.
            next: AtomicUsize::new(fastrand::u16(..).into()),
        }
    }

    /// How many addresses there are.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Where the next connection to this address may leave from.
    fn next(&self, to: SocketAddr) -> Result<SocketAddr, ClientError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.addresses.len().max(1);
        let address = match self.addresses.get(turn % count) {
            Some(address) => *address,
            None => route(to)?,
        };
        let port = self.ports.start() + (turn / count % self.ports.len()) as u16;
        Ok(SocketAddr::new(address, port))
    }
}

/// The address that the kernel would have a connection leave from. Nothing is sent.
fn route(to: SocketAddr) -> Result<IpAddr, ClientError> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(descriptors)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// A first and a last port.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut both = text.split_ascii_whitespace().map(str::parse);
    let (first, last) = (both.next()?.ok()?, both.next()?.ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

/// One address, or all from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceRange(pub Vec<IpAddr>);

impl FromStr for SourceRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str =
            "an address such as 127.0.0.2 or a range such as 127.0.0.2-127.0.0.9 is needed";
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self(vec![text.parse().map_err(|_| WANTED)?]));
        };
        let parse = |text: &str| text.parse::<std::net::Ipv4Addr>().map_err(|_| WANTED);
        let (first, last) = (u32::from(parse(first)?), u32::from(parse(last)?));
        match last.checked_sub(first) {
            Some(0..=65_535) => {
                let all = (first..=last).map(|it| IpAddr::V4(it.into()));
                Ok(Self(all.collect()))
            }
            _ => Err(WANTED),
        }
    }
}

/// Raises the limit of descriptors as far as this process may; how many it may have, where that is
/// known.
pub(crate) fn raise_descriptors() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit != rlimit::INFINITY => Some(limit),
        _ => None,
    }
}

/// What an open WebSocket runs on.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<dyn Octets>),
}

/// Opens a WebSocket; what the server sent after its answer comes with it.
///
/// # Errors
/// [`ClientError`] of whichever step failed. There is no deadline here.
pub(super) async fn dial(
    target: &Target,
    gateway: &GatewayUrl,
) -> Result<(Stream, Vec<u8>), ClientError> {
    let stream = connect(&target.sources, gateway).await?;
    stream.set_nodelay(true)?;
    if gateway.is_tls() {
        let mut stream = target.pass.secure(gateway, stream).await?;
        let rest = upgrade(&mut stream, target, gateway).await?;
        return Ok((Stream::Secure(stream), rest));
    }
    let mut stream = stream;
    let rest = upgrade(&mut stream, target, gateway).await?;
    Ok((Stream::Plain(stream), rest))
}

async fn connect(sources: &Sources, gateway: &GatewayUrl) -> Result<TcpStream, ClientError> {
    let address = match gateway.authority().parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => {
            let mut addresses = lookup_host(gateway.authority()).await?;
            let found = addresses.next();
            found.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?
        }
    };
    let mut tried = 0;
    loop {
        let source = sources.next(address)?;
        tried += 1;
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(descriptors)?;
        // Others may leave from this port too, to wherever else they go.
        socket.set_reuseaddr(true)?;
        let taken = match socket.bind(source) {
            // Where nobody listens, it would connect to itself.
            Ok(()) if source == address => ErrorKind::AddrInUse.into(),
            Ok(()) => match socket.connect(address).await {
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => error,
                connected => return Ok(connected?),
            },
            Err(error) if error.kind() == ErrorKind::AddrInUse => error,
            Err(error) => return Err(ClientError::Source(source.ip(), error)),
        };
        if tried == sources.ports.len() {
            return Err(ClientError::Ports {
                from: source.ip(),
                address,
                error: taken,
            });
        }
    }
}

/// What a socket that could not be had means (errno(3): EMFILE, ENFILE).
fn descriptors(error: io::Error) -> ClientError {
    match error.raw_os_error() {
        Some(23 | 24) => {
            let limit = rlimit::getrlimit(Resource::NOFILE).map_or(0, |(soft, _)| soft);
            ClientError::Descriptors(limit)
        }
        _ => error.into(),
    }
}

/// WebSocket's opening (RFC 6455, section 4.1).
async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &Target,
    gateway: &GatewayUrl,
) -> Result<Vec<u8>, ClientError> {
    let key = generate_key();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        gateway.path(),
        gateway.authority(),
        target.subprotocol,
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ClientError::Closed(None));
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&answer);
        let parsed = parsed.map_err(|_| ClientError::Wire("no answer in HTTP"))?;
        let httparse::Status::Complete(length) = parsed else {
            if answer.len() > MAX_ANSWER {
                return Err(ClientError::Wire("an answer that does not end"));
            }
            continue;
        };
        if response.code != Some(101) {
            return Err(ClientError::Upgrade(response.code.unwrap_or_default()));
        }
        let mut headers = response.headers.iter();
        let accept =
            headers.find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
        if accept.is_none_or(|accept| accept.value != derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(ClientError::Wire("an answer to another opening"));
        }
        answer.drain(..length);
        return Ok(if answer.is_empty() {
            Vec::new()
        } else {
            answer
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_are_addresses_and_ranges_in_turn() {
        let parse = |text: &str| text.parse::<SourceRange>().map(|range| range.0);
        assert_eq!(parse("::1").unwrap().len(), 1);
        let range = parse("127.0.0.254-127.0.1.1").unwrap();
        assert_eq!(range.len(), 4);
        assert_eq!(range[3], IpAddr::from([127, 0, 1, 1]));
        for wrong in [
            "",
            "localhost",
            "127.0.0.9-127.0.0.2",
            "1.0.0.0-9.0.0.0",
            "::1-::2",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let to = "127.0.0.1:1".parse().unwrap();
        let sources = Sources::new(range[..2].to_vec());
        let turns = (0..3).map(|_| sources.next(to).unwrap().ip());
        let turns = turns.collect::<Vec<_>>();
        let first = usize::from(turns[0] == range[1]);
        assert_eq!(turns, [first, 1 - first, first].map(|at| range[at]));
        let route = Sources::new(Vec::new()).next(to).unwrap();
        assert_eq!(route.ip(), to.ip(), "as the kernel has it");
    }

    #[test]
    fn every_port_of_every_source_is_taken_once_in_a_round() {
        assert_eq!(ports("32768\t60999\n"), Some(PORTS));
        for wrong in ["", "1", "0 9", "9 1", "1 70000", "a b"] {
            assert_eq!(ports(wrong), None, "{wrong:?}");
        }
        let addresses = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let sources = Sources {
            ports: 101..=104,
            ..Sources::new(addresses.to_vec())
        };
        let to = SocketAddr::new(addresses[0], 80);
        let round = (0..8).map(|_| sources.next(to).unwrap());
        let round = round.collect::<HashSet<_>>();
        assert_eq!(round.len(), 8, "{round:?}");
        assert!(round.iter().all(|it| sources.ports.contains(&it.port())));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let listen = tokio::net::TcpListener::bind;
        let gateway = listen("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", gateway.local_addr().unwrap());
        let url = url.parse().unwrap();
        let listener = listen("127.0.0.77:0").await.unwrap();
        let taken = listener.local_addr().unwrap();
        let sources = Sources {
            ports: taken.port()..=taken.port() + 1,
            next: 0.into(),
            ..Sources::new(vec![taken.ip()])
        };
        let stream = connect(&sources, &url).await.unwrap();
        let from = stream.local_addr().unwrap();
        assert_eq!(from, SocketAddr::new(taken.ip(), taken.port() + 1));
        let none = connect(&sources, &url).await.unwrap_err().to_string();
        assert!(none.contains("no port is left at 127.0.0.77"), "{none}");
        let other = Sources::new(vec![IpAddr::from([192, 0, 2, 1])]);
        let wrong = connect(&other, &url).await.unwrap_err().to_string();
        assert!(wrong.contains("192.0.2.1"), "{wrong}");
    }
}
