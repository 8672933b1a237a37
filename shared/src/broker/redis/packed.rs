//! Commands as they are sent.

use redis::Cmd;

/// Any number of commands, one behind the other.
#[derive(Default)]
pub(super) struct Packed {
    octets: Vec<u8>,
    count: usize,
}

/// A command that is being written.
pub(super) struct Words<'a>(&'a mut Vec<u8>);

impl Packed {
    /// Has room for about so many octets.
    pub(super) fn with_capacity(octets: usize) -> Self {
        Self {
            octets: Vec::with_capacity(octets),
            count: 0,
        }
    }

    pub(super) fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.octets);
        self.count += 1;
    }

    /// Begins a command of so many words, its name and its arguments, all of which have to follow.
    pub(super) fn begin(&mut self, words: usize) -> Words<'_> {
        self.count += 1;
        let mut command = Words(&mut self.octets);
        command.length(b'*', words);
        command
    }

    /// How many commands they are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What the server is sent.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl Words<'_> {
    /// The next word.
    pub(super) fn word(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        let word = word.as_ref();
        self.length(b'$', word.len());
        self.0.extend_from_slice(word);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// The next word, which is a number.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.word(itoa::Buffer::new().format(number))
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.0.push(kind);
        self.0
            .extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    #[test]
    fn a_command_is_what_the_library_sends() {
        let mut library = Packed::default();
        let mut own = Packed::default();
        for text in ["", "a", "\r\n", "\u{1f600}"] {
            library.add(cmd("SET").arg(text).arg(u64::MAX).arg(0));
            own.begin(4)
                .word("SET")
                .word(text)
                .number(u64::MAX)
                .number(0);
        }
        assert_eq!(own.octets(), library.octets());
        assert_eq!(own.count(), library.count());
    }
}
