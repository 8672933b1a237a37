//! Values of flags that people write with a unit.

use std::net::SocketAddr;
use std::time::Duration;

/// Far more than any flag needs, and far less than what a clock can add.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads `30s`, `500ms`, `10m`, `1h 30m`; `0s` is allowed, more than 100 years is not. For clap's
/// `value_parser`.
///
/// # Errors
/// A line that says how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("a time of at most 36500 days is needed".into()),
        Err(_) => Err("a number with its unit is needed, such as 500ms, 30s, 10m or 7d".into()),
    }
}

/// [`duration`], but not zero.
///
/// # Errors
/// A line that says how to write it.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("more than zero is needed, such as 10s".into()),
        duration => Ok(duration),
    }
}

/// Reads where to listen: `127.0.0.1:8080`, `0.0.0.0:8080`, `[::]:8080`; port 0 takes a free one.
/// For clap's `value_parser`.
///
/// # Errors
/// A line that says how to write it.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "IP:PORT is needed, such as 127.0.0.1:8080, 0.0.0.0:8080 (all networks) or [::1]:8080"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_their_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "30", "-1s", "ten", "1e9y", "101years"] {
            assert!(duration(wrong).is_err(), "{wrong:?} is no time");
        }
        assert!(positive_duration("0ms").is_err());
    }

    #[test]
    fn an_address_to_listen_on_is_an_ip_and_a_port() {
        assert_eq!(address("127.0.0.1:0").unwrap().port(), 0);
        assert!(address("[::1]:8080").is_ok());
        for wrong in [
            "",
            "8080",
            ":8080",
            "localhost:8080",
            "127.0.0.1",
            "127.0.0.1:70000",
        ] {
            assert!(
                address(wrong).unwrap_err().starts_with("IP:PORT"),
                "{wrong:?}"
            );
        }
    }
}
