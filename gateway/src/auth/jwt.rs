//! JSON Web Tokens (RFC 7519), signed as RFC 7515 says, and checked as RFC 8725 advises.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Header, crypto, decode_header};
use serde_json::{Map, Value};
use shared::message::UserName;

use super::AuthError;
use super::key::Key;
use crate::access::Grants;

/// Octets of a token at most.
pub(super) const MOST: usize = 8 << 10;

/// What is asked of a token beside its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whom it must be for, one of them; none is whoever.
    pub(crate) audiences: Vec<String>,
    /// Whom it must be from, one of them; none is whoever has the key.
    pub(crate) issuers: Vec<String>,
    /// How wrong clocks may be.
    pub(crate) leeway: Duration,
    /// The claim that names the user.
    pub(crate) user_claim: String,
    /// The claim that says what the user may do.
    pub(crate) rooms_claim: String,
    /// The claim that says that it is the application's own.
    pub(crate) backend_claim: String,
    /// It may have no `exp`.
    pub(crate) may_last: bool,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) user: UserName,
    pub(super) grants: Grants,
    pub(super) is_backend: bool,
    /// How long it is still good, leeway included.
    pub(super) remaining: Option<Duration>,
}

/// A token that is well formed. Nothing of it is proved.
pub(super) struct Signed<'a> {
    header: Header,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    /// Takes a token apart. Of its header only `alg` and `kid` count: keys that it brings along or
    /// says where to find (`jwk`, `jku`, `x5c`, `x5u`) are the sender's own word.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] when it is none, too large, signed in no way that is known here (which
    /// `none` is not), or wants something of who checks it that is not done here (`crit`, RFC 7515,
    /// section 4.1.11).
    pub(super) fn parse(token: &'a str) -> Result<Self, AuthError> {
        if token.len() > MOST {
            return Err(AuthError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid)?;
        let (_, payload) = message.split_once('.').ok_or(AuthError::Invalid)?;
        let header = decode_header(token).map_err(|_| AuthError::Invalid)?;
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        Ok(Self {
            header,
            message,
            payload,
            signature,
        })
    }

    /// Whether one of these keys, used by its own algorithm, has signed it. A token that names its
    /// key is checked by the key of that name, and by those that have none.
    pub(super) fn is_signed_by(&self, keys: &[Key]) -> bool {
        let kid = self.header.kid.as_deref();
        keys.iter()
            .filter(|key| key.algorithm == self.header.alg)
            .filter(|key| kid.is_none() || key.id.is_none() || key.id.as_deref() == kid)
            .any(|key| {
                let message = self.message.as_bytes();
                crypto::verify(self.signature, message, &key.decoding, key.algorithm)
                    .is_ok_and(|is_good| is_good)
            })
    }

    /// Whether one of these keys has the name that it asks for. Without a name none has.
    pub(super) fn names_one_of(&self, keys: &[Key]) -> bool {
        let kid = self.header.kid.as_deref();
        kid.is_some() && keys.iter().any(|key| key.id.as_deref() == kid)
    }

    /// What it says, where that makes sense and is good now. For a token whose signature is.
    ///
    /// # Errors
    /// [`AuthError::Expired`] when all else is right, or [`AuthError::Invalid`].
    pub(super) fn claims(&self, rules: &Rules, now: SystemTime) -> Result<Claims, AuthError> {
        let payload = BASE64_URL_SAFE_NO_PAD.decode(self.payload);
        let payload = payload.map_err(|_| AuthError::Invalid)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&payload).map_err(|_| AuthError::Invalid)?;
        if !names_any(claims.get("aud"), &rules.audiences)
            || !names_any(claims.get("iss"), &rules.issuers)
        {
            return Err(AuthError::Invalid);
        }
        let user = match claims.get(&rules.user_claim) {
            Some(Value::String(name)) => UserName::parse(name).ok(),
            // Applications number their users.
            Some(Value::Number(number)) => number
                .as_u64()
                .and_then(|number| UserName::parse(&number.to_string()).ok()),
            _ => None,
        };
        let now = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let leeway = rules.leeway.as_secs_f64();
        if time(&claims, "nbf")?.is_some_and(|from| now + leeway < from) {
            return Err(AuthError::Invalid);
        }
        let expires = time(&claims, "exp")?;
        if expires.is_none() && !rules.may_last {
            return Err(AuthError::Invalid);
        }
        let user = user.ok_or(AuthError::Invalid)?;
        let remaining = expires.map(|expires| expires + leeway - now);
        if remaining.is_some_and(|remaining| remaining <= 0.0) {
            return Err(AuthError::Expired);
        }
        Ok(Claims {
            user,
            grants: Grants::from_claim(claims.get(&rules.rooms_claim))
                .map_err(|_| AuthError::Invalid)?,
            is_backend: claims.get(&rules.backend_claim) == Some(&Value::Bool(true)),
            // What does not fit lasts for longer than anything here.
            remaining: remaining.and_then(|left| Duration::try_from_secs_f64(left).ok()),
        })
    }
}

/// Whether a claim, a name or a list of them, has one that is wanted.
fn names_any(claim: Option<&Value>, wanted: &[String]) -> bool {
    let is_wanted = |name: &Value| wanted.iter().any(|one| name == one.as_str());
    wanted.is_empty()
        || match claim {
            Some(Value::Array(names)) => names.iter().any(is_wanted),
            Some(name) => is_wanted(name),
            None => false,
        }
}

/// A claim that is a number of seconds since 1970 (RFC 7519, section 2, NumericDate).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(AuthError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use harness::Issuer;
    use harness::token::{hs256, unsigned};
    use serde_json::{Value, json};

    use super::{AuthError, Claims, MOST, Rules, Signed};
    use crate::auth::key::keys;

    /// The time of every test here: 1,000,000 seconds.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn rules() -> Rules {
        Rules {
            audiences: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            user_claim: "sub".into(),
            rooms_claim: "rooms".into(),
            backend_claim: "backend".into(),
            may_last: false,
        }
    }

    fn check(issuer: &Issuer, token: &str, rules: &Rules) -> Result<Claims, AuthError> {
        let signed = Signed::parse(token)?;
        if !signed.is_signed_by(&keys(issuer.public().as_bytes()).unwrap()) {
            return Err(AuthError::Invalid);
        }
        signed.claims(rules, now())
    }

    fn said(claims: Value, rules: &Rules) -> Result<Claims, AuthError> {
        let issuer = Issuer::hs256();
        check(&issuer, &issuer.token(claims), rules)
    }

    #[test]
    fn a_token_is_good_from_nbf_to_exp_with_leeway_at_both_ends() {
        let at = |claims| said(claims, &rules()).map(|claims| claims.remaining);
        let seconds = |count| Ok(Some(Duration::from_secs(count)));
        assert_eq!(at(json!({"sub": "kim", "exp": 1_000_100})), seconds(130));
        assert_eq!(at(json!({"sub": "kim", "exp": 999_971})), seconds(1));
        assert_eq!(
            at(json!({"sub": "kim", "exp": 999_970})),
            Err(AuthError::Expired)
        );
        let from = |nbf| at(json!({"sub": "kim", "exp": 1_000_100, "nbf": nbf}));
        assert_eq!(from(1_000_030), seconds(130));
        assert_eq!(from(1_000_031), Err(AuthError::Invalid));
    }

    #[test]
    fn times_that_are_none_are_refused_and_those_far_away_do_no_harm() {
        let at = |claims| said(claims, &rules()).map(|claims| claims.remaining);
        for claims in [
            json!({"sub": "kim", "exp": null}),
            json!({"sub": "kim", "exp": "1000100"}),
            json!({"sub": "kim", "exp": [1_000_100]}),
            json!({"sub": "kim", "exp": true}),
            json!({"sub": "kim", "exp": 1_000_100, "nbf": "0"}),
            json!({"sub": "kim", "exp": 1_000_100, "nbf": {}}),
        ] {
            assert_eq!(at(claims.clone()), Err(AuthError::Invalid), "{claims}");
        }
        assert_eq!(
            at(json!({"sub": "kim", "exp": -1e300})),
            Err(AuthError::Expired)
        );
        assert_eq!(at(json!({"sub": "kim", "exp": 1e300})), Ok(None));
        let lasting = Rules {
            may_last: true,
            ..rules()
        };
        let left = said(json!({"sub": "kim", "exp": null}), &lasting);
        assert_eq!(left.map(|claims| claims.remaining), Ok(None));
    }

    #[test]
    fn audience_and_issuer_are_asked_for_where_they_are_set() {
        let strict = Rules {
            audiences: vec!["chat".into(), "talk".into()],
            issuers: vec!["https://id.example".into()],
            ..rules()
        };
        let issuer = "https://id.example";
        for (aud, iss, good) in [
            (json!("chat"), json!(issuer), true),
            (json!(["other", "talk"]), json!(issuer), true),
            (json!("other"), json!(issuer), false),
            (json!([]), json!(issuer), false),
            (json!(["chat "]), json!(issuer), false),
            (json!({"chat": "chat"}), json!(issuer), false),
            (Value::Null, json!(issuer), false),
            (json!("chat"), json!("https://id.example.evil.com"), false),
            (json!("chat"), Value::Null, false),
        ] {
            let claims = json!({"sub": "kim", "exp": 1_000_100, "aud": aud, "iss": iss});
            assert_eq!(said(claims.clone(), &strict).is_ok(), good, "{claims}");
            assert!(said(claims, &rules()).is_ok());
        }
        assert!(said(json!({"sub": "kim", "exp": 1_000_100}), &strict).is_err());
    }

    #[test]
    fn a_user_is_a_name_or_a_number_and_nothing_else() {
        let user = |sub: Value| {
            let claims = said(json!({"sub": sub, "exp": 1_000_100}), &rules())?;
            Ok(claims.user.as_str().to_owned())
        };
        assert_eq!(user(json!("kim@example.com")), Ok("kim@example.com".into()));
        assert_eq!(user(json!(42)), Ok("42".into()));
        for sub in [
            json!(""),
            json!("a\u{0}b"),
            json!("a\nb"),
            json!("x".repeat(129)),
            json!(null),
            json!(-1),
            json!(1.5),
            json!(["kim"]),
            json!({"name": "kim"}),
            json!(true),
        ] {
            assert_eq!(user(sub.clone()), Err(AuthError::Invalid), "{sub}");
        }
    }

    #[test]
    fn only_true_makes_a_back_end() {
        let is_backend = |backend: Value| {
            let claims = json!({"sub": "app", "exp": 1_000_100, "backend": backend});
            said(claims, &rules()).unwrap().is_backend
        };
        assert!(is_backend(json!(true)));
        for other in [
            json!("true"),
            json!(1),
            json!(false),
            json!([true]),
            json!(null),
        ] {
            assert!(!is_backend(other));
        }
    }

    #[test]
    fn a_key_is_used_by_its_own_algorithm_whatever_the_token_says() {
        let rsa = Issuer::rs256();
        let claims = json!({"sub": "kim", "exp": 1_000_100});
        assert!(check(&rsa, &rsa.token(claims.clone()), &rules()).is_ok());
        // The public key is known to everybody: as a secret it would let everybody sign.
        for secret in [rsa.public().as_bytes(), rsa.public().trim_end().as_bytes()] {
            let message = unsigned(&json!({"alg": "HS256"}), claims.clone());
            let forged = hs256(&message, secret);
            assert_eq!(check(&rsa, &forged, &rules()), Err(AuthError::Invalid));
        }
        for alg in [
            "none", "None", "HS256", "RS384", "PS256", "ES256", "EdDSA", "", "RSA",
        ] {
            let token = rsa.sign(&json!({"alg": alg}), claims.clone());
            assert_eq!(
                check(&rsa, &token, &rules()),
                Err(AuthError::Invalid),
                "{alg}"
            );
        }
        let ec = Issuer::es256();
        let token = ec.sign(&json!({"alg": "EdDSA"}), claims);
        assert_eq!(check(&ec, &token, &rules()), Err(AuthError::Invalid));
    }

    #[test]
    fn a_named_key_is_the_only_named_one_that_a_token_is_checked_by() {
        let (old, new) = (Issuer::es256().named("old"), Issuer::es256().named("new"));
        let set = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
        let keys = keys(set.as_bytes()).unwrap();
        let claims = json!({"sub": "kim", "exp": 1_000_100});
        let is_good = |token: &str| Signed::parse(token).is_ok_and(|t| t.is_signed_by(&keys));
        assert!(is_good(&old.token(claims.clone())));
        assert!(is_good(&new.token(claims.clone())));
        assert!(is_good(&new.sign(&json!({"alg": "ES256"}), claims.clone())));
        let crossed = new.sign(&json!({"alg": "ES256", "kid": "old"}), claims);
        assert!(!is_good(&crossed));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let issuer = Issuer::hs256();
        let token = issuer.token(json!({"sub": "kim", "exp": 1_000_100}));
        let parts: Vec<&str> = token.split('.').collect();
        let long = json!({"sub": "kim", "exp": 1_000_100, "pad": "x".repeat(MOST)});
        for text in [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            "a.b.c".into(),
            format!("{token}."),
            format!(".{token}"),
            format!("{token}="),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", parts[1], parts[0], parts[2]),
            issuer.token(json!(["sub", "kim"])),
            issuer.token(json!("kim")),
            issuer.token(long),
            issuer.sign(
                &json!({"alg": "HS256", "crit": ["exp"]}),
                json!({"sub": "kim"}),
            ),
            issuer.sign(&json!({"alg": "HS256", "crit": []}), json!({"sub": "kim"})),
            issuer.sign(
                &json!({"alg": "HS256", "crit": "b64"}),
                json!({"sub": "kim"}),
            ),
            issuer.sign(&json!({"alg": ["HS256"]}), json!({"sub": "kim"})),
            issuer.sign(&json!("HS256"), json!({"sub": "kim"})),
        ] {
            assert_eq!(
                check(&issuer, &text, &rules()),
                Err(AuthError::Invalid),
                "{text}"
            );
        }
        assert!(check(&issuer, &token, &rules()).is_ok());
    }
}
