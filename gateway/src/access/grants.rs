//! What a token says of rooms.

use std::sync::Arc;

use serde_json::Value;
use shared::message::RoomName;
use shared::store::Rights;

use super::pattern::Pattern;
use super::{Action, Verdict};

/// Patterns in one token at most.
const MAX: usize = 256;

/// The rooms that a token names, by patterns, with what may be done there. By default there are
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Arc<[(Pattern, Rights)]>);

impl Grants {
    /// Reads a claim such as `{"team-*":"rw","lobby":"r"}`: `r` is to subscribe and to read the
    /// history, `w` to send, and `*` any run of characters but `/`. At most 256 patterns of up to
    /// 1,024 octets. No claim is no grant.
    ///
    /// # Errors
    /// [`GrantsError`] when it is anything else: then nothing of it counts, and the token is not
    /// valid.
    pub fn from_claim(claim: Option<&Value>) -> Result<Self, GrantsError> {
        let Some(claim) = claim else {
            return Ok(Self::default());
        };
        let claim = claim.as_object().ok_or(GrantsError::NoObject)?;
        if claim.len() > MAX {
            return Err(GrantsError::TooMany);
        }
        claim
            .iter()
            .map(|(pattern, rights)| {
                let pattern = Pattern::parse(pattern).ok_or(GrantsError::Pattern)?;
                let rights = rights.as_str().and_then(Rights::parse);
                Ok((pattern, rights.ok_or(GrantsError::Rights)?))
            })
            .collect::<Result<Arc<[_]>, _>>()
            .map(Self)
    }

    /// Whether they allow it.
    pub fn allow(&self, room: &RoomName, action: Action) -> bool {
        self.0.iter().any(|(pattern, rights)| {
            let has = match action {
                Action::Subscribe | Action::History => rights.read,
                Action::Send => rights.write,
            };
            has && pattern.fits(room.as_str())
        })
    }

    /// What they say of it, for as long as the token is valid.
    pub(crate) fn verdict(&self, room: &RoomName, action: Action) -> Verdict {
        if self.allow(room, action) {
            Verdict::Granted { until: None }
        } else {
            Verdict::Refused
        }
    }
}

/// Why a claim does not say what may be done in which rooms. It does not quote the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    /// It is something else.
    #[error("the claim of rooms is an object: {{\"team-*\":\"rw\",\"lobby\":\"r\"}}")]
    NoObject,
    /// It has more patterns than there may be.
    #[error("the claim of rooms has more than {MAX} patterns")]
    TooMany,
    /// One of them fits no room.
    #[error("a pattern of rooms is 1 to 1024 characters of A-Z a-z 0-9 . _ ~ : @ - % / *")]
    Pattern,
    /// What may be done is not understood.
    #[error("what a claim of rooms allows is \"r\", \"w\" or \"rw\"")]
    Rights,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::message::{RoomName, UserName};

    use super::{Action, Grants, GrantsError};

    fn room(name: &str) -> RoomName {
        RoomName::recorded(name).unwrap()
    }

    #[test]
    fn r_is_to_read_and_w_is_to_send() {
        let claim = json!({"team-*": "rw", "lobby": "r", "drop-box": "w"});
        let grants = Grants::from_claim(Some(&claim)).unwrap();
        for (name, reads, sends) in [
            ("team-a", true, true),
            ("lobby", true, false),
            ("drop-box", false, true),
            ("other", false, false),
            ("user/kim/queue/x", false, false),
        ] {
            let room = room(name);
            assert_eq!(grants.allow(&room, Action::Subscribe), reads, "{name}");
            assert_eq!(grants.allow(&room, Action::History), reads, "{name}");
            assert_eq!(grants.allow(&room, Action::Send), sends, "{name}");
        }
    }

    #[test]
    fn several_patterns_add_up() {
        let grants = Grants::from_claim(Some(&json!({"a*": "r", "*b": "w"}))).unwrap();
        assert!(grants.allow(&room("ab"), Action::Send));
        assert!(grants.allow(&room("ab"), Action::Subscribe));
        assert!(!grants.allow(&room("a"), Action::Send));
    }

    #[test]
    fn a_star_is_not_everybodys_queues() {
        let kim = UserName::parse("kim").unwrap();
        let queue = RoomName::queue(&kim, "queue/x").unwrap();
        let every = Grants::from_claim(Some(&json!({"*": "rw"}))).unwrap();
        assert!(!every.allow(&queue, Action::Send));
        let queues = Grants::from_claim(Some(&json!({"user/*/queue/*": "w"}))).unwrap();
        assert!(queues.allow(&queue, Action::Send));
        assert!(!queues.allow(&queue, Action::Subscribe));
    }

    #[test]
    fn a_malformed_claim_gives_nothing() {
        let many: Value = (0..257)
            .map(|n| (format!("r{n}"), Value::from("r")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        for (claim, expected) in [
            (json!(null), GrantsError::NoObject),
            (json!("rw"), GrantsError::NoObject),
            (json!(["lobby"]), GrantsError::NoObject),
            (many, GrantsError::TooMany),
            (json!({"": "r"}), GrantsError::Pattern),
            (json!({"lobby": "r", "no room": "r"}), GrantsError::Pattern),
            (json!({"lobby": ""}), GrantsError::Rights),
            (json!({"lobby": "rwx"}), GrantsError::Rights),
            (json!({"lobby": true}), GrantsError::Rights),
            (json!({"lobby": {"$ne": 1}}), GrantsError::Rights),
        ] {
            assert_eq!(
                Grants::from_claim(Some(&claim)).unwrap_err(),
                expected,
                "{claim}"
            );
        }
        for claim in [None, Some(&json!({}))] {
            assert_eq!(Grants::from_claim(claim).unwrap(), Grants::default());
        }
    }
}
