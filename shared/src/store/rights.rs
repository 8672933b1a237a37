//! What a user may do in a room.

/// What a user may do in a room. By default that is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Subscribe to it, and read what was said before.
    pub read: bool,
    /// Send to it.
    pub write: bool,
}

impl Rights {
    /// The rights that are spelt so: `r`, `w` or `rw`. Nothing else is any.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "r" | "w" | "rw" => Some(Self {
                read: text.starts_with('r'),
                write: text.ends_with('w'),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rights;

    #[test]
    fn rights_are_r_w_or_rw_and_nothing_else() {
        for (text, read, write) in [("r", true, false), ("w", false, true), ("rw", true, true)] {
            assert_eq!(Rights::parse(text), Some(Rights { read, write }));
        }
        for text in ["", "R", "wr", "rwx", "r w", " r", "read", "*", "rw\n"] {
            assert_eq!(Rights::parse(text), None, "{text:?}");
        }
    }
}
