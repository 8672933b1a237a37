//! From nothing to an open WebSocket.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
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

/// Addresses that connections leave from, in turn; none leaves it to the kernel.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    addresses: Vec<IpAddr>,
    next: AtomicUsize,
}

impl Sources {
    /// These addresses.
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            next: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    fn next(&self) -> Option<IpAddr> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(self.addresses.len())?;
        Some(self.addresses[at])
    }
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
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(descriptors)?;
    let source = sources.next();
    let ports = |error: io::Error| match error.kind() {
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => ClientError::Ports {
            from: source.map_or_else(|| "this machine".to_owned(), |it| it.to_string()),
            address,
            error,
        },
        _ => error.into(),
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(ports)?;
    }
    socket.connect(address).await.map_err(ports)
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
        let sources = Sources::new(range[..2].to_vec());
        let turns = (0..3).map(|_| sources.next().unwrap()).collect::<Vec<_>>();
        assert_eq!(turns, [range[0], range[1], range[0]]);
        assert_eq!(Sources::default().next(), None);
    }
}
