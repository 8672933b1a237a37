//! `X-Forwarded-For`: whom proxies say that they ask for.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

/// As each proxy adds the address that it was asked from, the last entry is the nearest's word.
const NAME: &str = "x-forwarded-for";

/// The most entries that are looked at: far more proxies than there are in any row.
const MOST: usize = 32;

/// Where the client is: the last address in all lines of the header that is no trusted proxy's. The
/// entries before it are what the client itself claims. When all are trusted it is the first of
/// them; one that is no address ends the looking, and the one behind it counts.
pub(super) fn client(
    peer: SocketAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> SocketAddr {
    let mut client = peer;
    let lines = headers.get_all(NAME).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|octet| *octet == b','));
    for entry in entries.take(MOST) {
        let Some(address) = address(entry) else {
            break;
        };
        client = address;
        if !is_trusted(client.ip()) {
            break;
        }
    }
    client
}

/// Reads an address that may have a port; an IPv6 one may be in brackets. Without a port it is 0.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: SocketAddr = match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) if bare.is_some() => return None,
        Ok(ip) => (ip, 0).into(),
        Err(_) => text.parse().ok()?,
    };
    Some((address.ip().to_canonical(), address.port()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = hyper::header::HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(NAME, value);
        }
        let trusted: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
        let peer = "10.0.0.1:99".parse().unwrap();
        client(peer, &headers, |ip| trusted.contains(&ip)).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        for (lines, client) in [
            (&[][..], "10.0.0.1:99"),
            (&["192.0.2.7"], "192.0.2.7:0"),
            (&["192.0.2.7:81"], "192.0.2.7:81"),
            (&["2001:db8::7"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]:81"], "[2001:db8::7]:81"),
            (&["::ffff:192.0.2.7"], "192.0.2.7:0"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7:0"),
            (&["6.6.6.6,192.0.2.7 ,\t10.1.1.1"], "192.0.2.7:0"),
            (
                &["6.6.6.6", "192.0.2.7", "10.1.1.1, 10.1.1.2"],
                "192.0.2.7:0",
            ),
            (&["10.2.2.2, ::ffff:10.1.1.1"], "10.2.2.2:0"),
        ] {
            assert_eq!(found(lines), client, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_looking() {
        for (lines, client) in [
            (&["192.0.2.7, unknown"][..], "10.0.0.1:99"),
            (&["192.0.2.7,"], "10.0.0.1:99"),
            (&[""], "10.0.0.1:99"),
            (&["192.0.2.7, , 10.1.1.1"], "10.1.1.1:0"),
            (&["192.0.2.7", "é", "10.1.1.1"], "10.1.1.1:0"),
            (&["192.0.2.7:x"], "10.0.0.1:99"),
            (&["192.0.2.7:70000"], "10.0.0.1:99"),
            (&["[192.0.2.7]"], "10.0.0.1:99"),
            (&["[2001:db8::7"], "10.0.0.1:99"),
            (&["fe80::1%eth0"], "10.0.0.1:99"),
            (&["192.0.2.7 6.6.6.6"], "10.0.0.1:99"),
        ] {
            assert_eq!(found(lines), client, "{lines:?}");
        }
        let many = ["192.0.2.7", &"10.9.9.9,".repeat(MOST), "10.1.1.1"].join(",");
        assert_ne!(found(&[&many]), "192.0.2.7:0");
    }
}
