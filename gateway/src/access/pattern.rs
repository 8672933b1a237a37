//! Patterns of rooms.

/// The longest pattern, in octets: the longest name of a queue is not longer.
const MAX_LEN: usize = 1024;

/// A room's name, in which `*` stands for any run of characters but `/`, also for none. So no
/// pattern without slashes fits a user's queue, whose name has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Box<str>);

impl Pattern {
    /// Checks a pattern; `None` for one that fits no name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:@-%/*".contains(&b);
        let is_pattern = !text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(allowed);
        is_pattern.then(|| Self(text.into()))
    }

    /// Whether it fits. That takes time in proportion to both lengths added up, for no part of the
    /// name is looked at for a second place once it has found its first.
    pub(super) fn fits(&self, name: &str) -> bool {
        let mut segments = name.split('/');
        self.0
            .split('/')
            .all(|pattern| segments.next().is_some_and(|name| segment(pattern, name)))
            && segments.next().is_none()
    }
}

/// Whether a pattern fits between two slashes.
fn segment(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let between = name
        .strip_prefix(first)
        .and_then(|name| name.strip_suffix(last));
    let Some(mut name) = between else {
        return false;
    };
    middle.split('*').all(|part| match name.find(part) {
        Some(at) => {
            name = &name[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().fits(name)
    }

    /// What the words say, by trying everything.
    fn fits_by_trying(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => {
                let most = name.iter().position(|b| *b == b'/').unwrap_or(name.len());
                (0..=most).any(|run| fits_by_trying(rest, &name[run..]))
            }
            ([one, rest @ ..], [other, name @ ..]) => one == other && fits_by_trying(rest, name),
            _ => false,
        }
    }

    #[test]
    fn a_star_is_any_run_but_for_slashes() {
        for (pattern, name, expected) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby", "Lobby", false),
            ("team-*", "team-", true),
            ("team-*", "team-a.b:c", true),
            ("team-*", "team", false),
            ("*", "anything", true),
            ("**", "anything", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*ab", "abxab", true),
            ("*ab*ab", "ab", false),
            ("*", "user/kim/queue/x", false),
            ("*/*", "user/kim/queue/x", false),
            ("user*", "user/kim/queue/x", false),
            ("user/*/queue/*", "user/kim/queue/x", true),
            ("user/*/queue/*", "user/kim/topic/x", false),
            ("user/*/queue/*", "user/kim/queue/a/b", false),
            ("user/*/queue/*/*", "user/kim/queue/a/b", true),
            ("user/kim/*/*", "user/kim2/queue/x", false),
            ("user/*/queue/*", "user", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} and {name}");
        }
    }

    #[test]
    fn what_fits_no_name_is_no_pattern() {
        for text in ["", "a b", "a\n", "a?", "[a-z]", "김", "a#", "(a|b)", "\\*"] {
            assert_eq!(Pattern::parse(text), None, "{text:?}");
        }
        assert_eq!(Pattern::parse(&"a".repeat(1025)), None);
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        // Trying everything would take longer than there is time.
        let pattern = "a*".repeat(511) + "b";
        assert!(!fits(&pattern, &"a".repeat(1024)));
        assert!(fits(&pattern, &("a".repeat(1024) + "b")));
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_its_words_say(pattern in "[ab*/]{1,10}", name in "[ab/]{0,10}") {
            let expected = fits_by_trying(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(fits(&pattern, &name), expected);
        }
    }
}
