//! What stands before the clients' octets: TLS, and proxies that are trusted.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use shared::config::ConfigError;

use super::args::CONNECTIONS;

/// TLS, and proxies.
#[derive(Args, Clone, Debug, Default)]
pub struct FrontArgs {
    /// Serve clients over TLS (1.2 and 1.3) with this certificate: a file in PEM, the server's own
    /// certificate first, then those that lead to an authority. SIGHUP reads it anew
    #[arg(long, env = "ROOMCAST_TLS_CERT", value_name = "FILE", help_heading = CONNECTIONS)]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert: a file in PEM, not encrypted
    #[arg(long, env = "ROOMCAST_TLS_KEY", value_name = "FILE", help_heading = CONNECTIONS)]
    pub tls_key: Option<PathBuf>,

    /// Addresses of proxies that may say whose connections they pass on, such as `10.0.0.0/8` or
    /// `192.0.2.7`: by X-Forwarded-For, or with --proxy-protocol. May be repeated. What any other
    /// address says of that is ignored
    #[arg(long = "trusted-proxy", env = "ROOMCAST_TRUSTED_PROXY", value_name = "CIDR",
        value_delimiter = ',', value_parser = network, help_heading = CONNECTIONS)]
    pub trusted_proxies: Vec<IpNet>,

    /// Each connection from a --trusted-proxy begins with a header of the PROXY protocol, version 2,
    /// before TLS. One without it is closed
    #[arg(long, env = "ROOMCAST_PROXY_PROTOCOL", help_heading = CONNECTIONS)]
    pub proxy_protocol: bool,
}

/// The flags, checked.
#[derive(Clone, Debug, Default)]
pub struct FrontSettings {
    /// Where the certificate and its key are; `None` serves without TLS.
    pub tls: Option<TlsFiles>,
    /// Who may say whose connections it passes on.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether they say it by the PROXY protocol.
    pub proxy_protocol: bool,
}

/// `--tls-cert` and `--tls-key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key of its first certificate.
    pub key: PathBuf,
}

impl FrontSettings {
    pub(super) fn from_args(args: &FrontArgs) -> Result<Self, ConfigError> {
        let tls = match (args.tls_cert.clone(), args.tls_key.clone()) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError(
                    "--tls-cert needs --tls-key: the file with its private key".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError(
                    "--tls-key needs --tls-cert: the file with the certificate".into(),
                ));
            }
        };
        if args.proxy_protocol && args.trusted_proxies.is_empty() {
            return Err(ConfigError(
                "--proxy-protocol needs --trusted-proxy: the addresses that the proxies connect from"
                    .into(),
            ));
        }
        Ok(Self {
            tls,
            trusted_proxies: args.trusted_proxies.clone(),
            proxy_protocol: args.proxy_protocol,
        })
    }
}

/// Reads `10.0.0.0/8`, `fd00::/8` or one address. An IPv4 network that is written in IPv6 becomes
/// what it is.
fn network(text: &str) -> Result<IpNet, String> {
    let read = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network: IpNet = read.map_err(|_| {
        "a network or an address is needed, such as 10.0.0.0/8, fd00::/8 or 192.0.2.7".to_owned()
    })?;
    let within = match network {
        IpNet::V6(net) if net.prefix_len() >= 96 => net
            .network()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, net.prefix_len() - 96).ok()),
        _ => None,
    };
    Ok(within.map_or(network, IpNet::V4).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_only_make_sense_together_are_refused_alone() {
        let alone = |args: &FrontArgs| FrontSettings::from_args(args).unwrap_err().0;
        let file = Some(PathBuf::from("x"));
        let certificate = FrontArgs {
            tls_cert: file.clone(),
            ..FrontArgs::default()
        };
        assert!(alone(&certificate).contains("--tls-key"));
        let key = FrontArgs {
            tls_key: file,
            ..FrontArgs::default()
        };
        assert!(alone(&key).contains("--tls-cert"));
        let protocol = FrontArgs {
            proxy_protocol: true,
            ..FrontArgs::default()
        };
        assert!(alone(&protocol).contains("--trusted-proxy"));
    }

    #[test]
    fn a_network_is_a_range_or_one_address() {
        for (text, means) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), means);
        }
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0", "10.0.0.0:80"] {
            assert!(network(wrong).unwrap_err().contains("10.0.0.0/8"));
        }
    }
}
