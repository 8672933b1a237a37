//! JSON Web Keys (RFC 7517), and sets of them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::{Key, KeyError};

/// Keys of one set at most: a token without the name of one is checked by each.
pub(super) const MOST: usize = 64;

/// Whose word a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The operator's, by a flag or a file.
    Operator,
    /// Whoever answers at a URL. A secret that is published is none, so that none is taken.
    Published,
}

/// The keys of a JWK, or of a set. Those of a set that are for something else, or of a kind that is
/// not known here, do not count (RFC 7517, section 5).
///
/// # Errors
/// [`KeyError`] when none is left, or one is given away that must not be.
pub(super) fn keys(json: &[u8], source: Source) -> Result<Vec<Key>, KeyError> {
    let json: Value = serde_json::from_slice(json).map_err(|_| KeyError::Json)?;
    let Some(members) = json.get("keys") else {
        let key: Jwk = Deserialize::deserialize(&json).map_err(|_| KeyError::Json)?;
        return Ok(vec![key.key(source)?]);
    };
    let members = members.as_array().ok_or(KeyError::Json)?;
    if members.len() > MOST {
        return Err(KeyError::Many);
    }
    let mut keys = Vec::new();
    for member in members {
        let key: Result<Jwk, _> = Deserialize::deserialize(member);
        match key
            .map_err(|_| KeyError::Json)
            .and_then(|key| key.key(source))
        {
            Ok(key) => keys.push(key),
            Err(KeyError::Private) => return Err(KeyError::Private),
            Err(_) => {}
        }
    }
    if keys.is_empty() {
        return Err(KeyError::Unusable);
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    #[serde(rename = "use")]
    purpose: Option<&'a str>,
    key_ops: Option<Vec<&'a str>>,
    alg: Option<&'a str>,
    kid: Option<Box<str>>,
    crv: Option<&'a str>,
    n: Option<Octets>,
    e: Option<Octets>,
    x: Option<Octets>,
    y: Option<Octets>,
    k: Option<Octets>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk<'_> {
    fn key(self, source: Source) -> Result<Key, KeyError> {
        let signs = self.purpose.is_none_or(|purpose| purpose == "sig");
        let verifies = self.key_ops.is_none_or(|ops| ops.contains(&"verify"));
        let is_for = |alg: &str| self.alg.is_none_or(|own| own == alg);
        if !signs || !verifies {
            return Err(KeyError::Unusable);
        }
        if self.d.is_some() {
            return Err(KeyError::Private);
        }
        match (self.kty, self.crv) {
            ("RSA", _) if is_for("RS256") => match (self.n, self.e) {
                (Some(n), Some(e)) => Key::rsa(&n.0, &e.0, self.kid),
                _ => Err(KeyError::Json),
            },
            ("EC", Some("P-256")) if is_for("ES256") => match (self.x, self.y) {
                (Some(x), Some(y)) if x.0.len() == 32 && y.0.len() == 32 => {
                    Key::p256(&[&[4], &x.0[..], &y.0[..]].concat(), self.kid)
                }
                _ => Err(KeyError::Json),
            },
            ("OKP", Some("Ed25519")) if is_for("EdDSA") || is_for("Ed25519") => {
                Key::ed25519(&self.x.ok_or(KeyError::Json)?.0, self.kid)
            }
            ("oct", _) if is_for("HS256") && source == Source::Operator => {
                Key::secret(&self.k.ok_or(KeyError::Json)?.0, self.kid)
            }
            _ => Err(KeyError::Unusable),
        }
    }
}

/// Octets in base64url, without padding (RFC 7515, section 2).
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let octets = BASE64_URL_SAFE_NO_PAD.decode(text);
        octets.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use harness::Issuer;
    use serde_json::{Value, json};

    use super::{KeyError, MOST, Source, keys};

    fn ids(set: &Value, source: Source) -> Result<Vec<String>, KeyError> {
        let keys = keys(set.to_string().as_bytes(), source)?;
        let ids = keys
            .into_iter()
            .map(|key| key.id.unwrap_or_default().into());
        Ok(ids.collect())
    }

    fn with(issuer: &Issuer, member: &str, value: Value) -> Value {
        let mut jwk = issuer.jwk();
        jwk[member] = value;
        jwk
    }

    #[test]
    fn of_a_set_only_what_signs_by_a_known_algorithm_counts() {
        let issuer = Issuer::rs256().named("good");
        let set = json!({"keys": [
            with(&issuer, "use", json!("enc")),
            with(&issuer, "alg", json!("RS512")),
            with(&issuer, "alg", json!("RSA-OAEP")),
            with(&issuer, "key_ops", json!(["sign"])),
            with(&issuer, "n", json!("AQAB")),
            with(&issuer, "n", json!("no base64!")),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!("what is this"),
            issuer.jwk(),
        ]});
        assert_eq!(ids(&set, Source::Published), Ok(vec!["good".into()]));
    }

    #[test]
    fn a_secret_that_is_published_is_none() {
        let secret = Issuer::hs256().jwk();
        let set = json!({"keys": [secret]});
        assert_eq!(ids(&set, Source::Published), Err(KeyError::Unusable));
        assert_eq!(ids(&set, Source::Operator).map(|ids| ids.len()), Ok(1));
    }

    #[test]
    fn a_private_key_is_refused_wherever_it_stands() {
        let private = with(&Issuer::es256(), "d", json!("AAAA"));
        assert_eq!(ids(&private, Source::Operator), Err(KeyError::Private));
        let set = json!({"keys": [Issuer::es256().jwk(), private]});
        assert_eq!(ids(&set, Source::Operator), Err(KeyError::Private));
    }

    #[test]
    fn a_set_is_bounded_and_never_empty() {
        let key = Issuer::eddsa().jwk();
        let set = |count| json!({"keys": vec![key.clone(); count]});
        assert_eq!(
            ids(&set(MOST), Source::Published).map(|ids| ids.len()),
            Ok(MOST)
        );
        assert_eq!(ids(&set(MOST + 1), Source::Published), Err(KeyError::Many));
        assert_eq!(ids(&set(0), Source::Published), Err(KeyError::Unusable));
        assert_eq!(ids(&json!({"a": 1}), Source::Operator), Err(KeyError::Json));
    }
}
