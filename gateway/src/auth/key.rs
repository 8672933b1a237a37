//! Keys that tokens are checked by. Each is for one algorithm: what a token says of itself never
//! chooses how a key is used (RFC 8725, section 3.1).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::server::ParsedCertificate;

use super::jwk;

/// The least octets of a secret for HS256 (RFC 7518, section 3.2).
pub(super) const SECRET: usize = 32;

/// The modulus of an RSA key, in octets: 2048 bits (RFC 7518, section 3.3), and what can be checked.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// What precedes the 65 octets of a P-256 point in its SubjectPublicKeyInfo (RFC 5480, section 2).
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
    \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// What precedes the 32 octets of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// A key, and the one algorithm that it is for.
#[derive(Clone)]
pub(crate) struct Key {
    /// Its name among others.
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

/// Why octets are no keys. No text of these quotes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("there is nothing in it")]
    Empty,
    #[error(
        "this is a private key, which signs tokens: give the public one (openssl pkey -pubout)"
    )]
    Private,
    #[error("a secret for HS256 has at least {SECRET} octets")]
    Short,
    #[error("an RSA key has 2048 to 8192 bits")]
    Modulus,
    #[error("keys are RSA, EC on the curve P-256, Ed25519, or a secret for HS256")]
    Kind,
    #[error("the PEM cannot be read")]
    Pem,
    #[error("there is more than one PEM block: give one key at a time")]
    Several,
    #[error("the certificate cannot be read")]
    Certificate,
    #[error("the JSON is no JWK, and no JWK set")]
    Json,
    #[error("no key of the set can be used: RS256, ES256, EdDSA and HS256 are known, to sign with")]
    Unusable,
    #[error("the set has more than {} keys", jwk::MOST)]
    Many,
    #[error(
        "this is a public key without its BEGIN line, which would be taken for a secret that \
         everybody knows: give it as PEM"
    )]
    Unarmoured,
}

/// The keys in a flag or a file: a PEM public key or certificate, a JWK or a set of them, or else a
/// secret, without a line end.
///
/// # Errors
/// [`KeyError`] when there is none, or one that would not be safe.
pub(crate) fn keys(octets: &[u8]) -> Result<Vec<Key>, KeyError> {
    let text = str::from_utf8(octets).unwrap_or_default().trim();
    if text.contains("-----BEGIN ") {
        return Ok(vec![pem(text)?]);
    }
    if text.starts_with('{') {
        return jwk::keys(text.as_bytes(), jwk::Source::Operator);
    }
    let mut secret = octets;
    while let Some(rest) = secret.strip_suffix(b"\n").or(secret.strip_suffix(b"\r")) {
        secret = rest;
    }
    if secret.is_empty() {
        return Err(KeyError::Empty);
    }
    let compact: String = text.split_whitespace().collect();
    let is_bare = is_der(secret)
        || BASE64_STANDARD
            .decode(compact)
            .is_ok_and(|der| is_der(&der));
    if is_bare
        || ["ssh-", "ecdsa-"]
            .iter()
            .any(|start| text.starts_with(start))
    {
        return Err(KeyError::Unarmoured);
    }
    Ok(vec![Key::secret(secret, None)?])
}

impl Key {
    pub(super) fn secret(secret: &[u8], id: Option<Box<str>>) -> Result<Self, KeyError> {
        if secret.len() < SECRET {
            return Err(KeyError::Short);
        }
        Ok(Self {
            id,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret),
        })
    }

    pub(super) fn rsa(n: &[u8], e: &[u8], id: Option<Box<str>>) -> Result<Self, KeyError> {
        let zeros = n.iter().take_while(|octet| **octet == 0).count();
        let n = &n[zeros..];
        if !MODULUS.contains(&n.len()) || (n.len() == *MODULUS.start() && n[0] < 0x80) {
            return Err(KeyError::Modulus);
        }
        Ok(Self {
            id,
            algorithm: Algorithm::RS256,
            decoding: DecodingKey::from_rsa_raw_components(n, e),
        })
    }

    /// An uncompressed point (SEC 1, section 2.3.3).
    pub(super) fn p256(point: &[u8], id: Option<Box<str>>) -> Result<Self, KeyError> {
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyError::Kind);
        }
        Ok(Self {
            id,
            algorithm: Algorithm::ES256,
            decoding: DecodingKey::from_ec_der(point),
        })
    }

    pub(super) fn ed25519(key: &[u8], id: Option<Box<str>>) -> Result<Self, KeyError> {
        if key.len() != 32 {
            return Err(KeyError::Kind);
        }
        Ok(Self {
            id,
            algorithm: Algorithm::EdDSA,
            decoding: DecodingKey::from_ed_der(key),
        })
    }
}

/// The one key in a PEM text (RFC 7468).
fn pem(text: &str) -> Result<Key, KeyError> {
    if text.matches("-----BEGIN ").count() > 1 {
        // Where one is an EC key's parameters, the other is the key that they are for: private.
        let is_private = text.contains("PRIVATE KEY-----");
        return Err(if is_private {
            KeyError::Private
        } else {
            KeyError::Several
        });
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    if text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return rsa(&DecodingKey::from_rsa_pem(text.as_bytes()).map_err(|_| KeyError::Pem)?);
    }
    let section = <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes());
    match section.map_err(|_| KeyError::Pem)? {
        (SectionKind::PublicKey, der) => public(&der),
        (SectionKind::Certificate, der) => {
            let der = CertificateDer::from(der);
            let certificate = ParsedCertificate::try_from(&der);
            let certificate = certificate.map_err(|_| KeyError::Certificate)?;
            public(&certificate.subject_public_key_info())
        }
        _ => Err(KeyError::Kind),
    }
}

/// The key in a SubjectPublicKeyInfo (RFC 5280, section 4.1).
fn public(der: &[u8]) -> Result<Key, KeyError> {
    if let Some(point) = der.strip_prefix(P256) {
        return Key::p256(point, None);
    }
    if let Some(key) = der.strip_prefix(ED25519) {
        return Key::ed25519(key, None);
    }
    let text = BASE64_STANDARD.encode(der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    // It looks for the object identifier of RSA encryption.
    rsa(&DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| KeyError::Kind)?)
}

/// An RSAPublicKey (RFC 8017, appendix A.1.1).
fn rsa(key: &DecodingKey) -> Result<Key, KeyError> {
    let der = key.try_get_as_bytes().map_err(|_| KeyError::Kind)?;
    let components = (DEFAULT_PROVIDER
        .key_utils
        .rsa_pub_components_from_public_key)(der);
    let (n, e) = components.map_err(|_| KeyError::Modulus)?;
    Key::rsa(&n, &e, None)
}

/// Whether octets are one DER sequence (X.690, section 8.1), as keys in files are.
fn is_der(octets: &[u8]) -> bool {
    let (head, length) = match octets {
        [0x30, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
        [0x30, 0x81, length, ..] => (3, usize::from(*length)),
        [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return false,
    };
    octets.len() == head + length
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use harness::Issuer;
    use jsonwebtoken::Algorithm;

    use super::{KeyError, keys};

    fn algorithm(text: &str) -> Result<Algorithm, KeyError> {
        keys(text.as_bytes()).map(|keys| keys[0].algorithm)
    }

    #[test]
    fn a_key_is_for_the_one_algorithm_of_its_kind() {
        for (issuer, expected) in [
            (Issuer::rs256(), Algorithm::RS256),
            (Issuer::es256(), Algorithm::ES256),
            (Issuer::eddsa(), Algorithm::EdDSA),
        ] {
            assert_eq!(algorithm(issuer.public()), Ok(expected));
            assert_eq!(algorithm(&issuer.jwk().to_string()), Ok(expected));
            assert_eq!(algorithm(&issuer.certificate()), Ok(expected));
            assert_eq!(algorithm(&issuer.private()), Err(KeyError::Private));
        }
        assert_eq!(algorithm(Issuer::hs256().public()), Ok(Algorithm::HS256));
    }

    #[test]
    fn a_line_end_is_no_part_of_a_secret() {
        assert_eq!(algorithm(&"x".repeat(32)), Ok(Algorithm::HS256));
        assert_eq!(
            algorithm(&format!("{}\r\n", "x".repeat(31))),
            Err(KeyError::Short)
        );
        assert_eq!(algorithm("\n"), Err(KeyError::Empty));
    }

    #[test]
    fn a_public_key_is_never_taken_for_a_secret() {
        for issuer in [Issuer::rs256(), Issuer::es256(), Issuer::eddsa()] {
            let lines: Vec<&str> = issuer.public().lines().collect();
            let bare = lines[1..lines.len() - 1].join("\n");
            assert_eq!(algorithm(&bare), Err(KeyError::Unarmoured));
            let der = BASE64_STANDARD
                .decode(bare.replace(char::is_whitespace, ""))
                .unwrap();
            assert_eq!(keys(&der).unwrap_err(), KeyError::Unarmoured);
        }
        let ssh = format!("ssh-ed25519 {} kim@host", "A".repeat(60));
        assert_eq!(algorithm(&ssh), Err(KeyError::Unarmoured));
    }

    #[test]
    fn what_would_not_be_safe_or_cannot_be_used_is_refused() {
        let p384 = "-----BEGIN PUBLIC KEY-----\n\
            MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE8+mD/hQiV7Q+fBh8xhZcchf6rDiuX9E8\n\
            0lZArNJVc/nXq7yGwCkKRNQepEbdE3Prc2L5zQg6qoKbPY0uBYyF02KvBQKAQLys\n\
            OdNTnuEWa6kjhWjZu6CfcN14UAhm+3L1\n\
            -----END PUBLIC KEY-----\n";
        assert_eq!(algorithm(p384), Err(KeyError::Kind));
        let two = Issuer::es256().public().repeat(2);
        assert_eq!(algorithm(&two), Err(KeyError::Several));
        let broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
        assert_eq!(algorithm(broken), Err(KeyError::Kind));
        assert_eq!(
            algorithm("-----BEGIN PUBLIC KEY-----\n"),
            Err(KeyError::Pem)
        );
        // 1024 bits, made by openssl.
        let small = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDSl8wh2oBqLRGIjQitw0nRR5aN\n\
            AptQGHzhHRyLGF1AIsP2PWHe49bG7fcuyEpudnVgu+yS5enGR1zpUUb26WYto0S6\n\
            GMMJP6ELjv99YbMM+4vhh7NSf5hlsrdVOT1N6r5elMlzyLYAOr9mmHRbTCrXw3Xe\n\
            oYBTuUPVNeszn0fslQIDAQAB\n\
            -----END PUBLIC KEY-----\n";
        assert_eq!(algorithm(small), Err(KeyError::Modulus));
    }
}
