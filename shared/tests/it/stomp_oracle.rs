//! What must hold for any octets, in any pieces, read by any version's rules: one check that the
//! property tests, the kept corpus and the fuzz target `decoder` share.

use shared::stomp::{DecodeError, Decoded, Decoder, Frame, Limits, Version, encode};

/// Limits that short input reaches.
pub(crate) const TIGHT: Limits = Limits {
    frame_bytes: 96,
    headers: 4,
    header_bytes: 24,
    headers_bytes: 40,
};

/// A stream of octets, how it is cut, and how it is read.
#[derive(Clone, Debug)]
pub(crate) struct Case<'a> {
    /// `None` before a version is negotiated.
    pub(crate) version: Option<Version>,
    pub(crate) limits: Limits,
    /// The sizes of the pieces, over and over; without any, each is one octet.
    pub(crate) sizes: &'a [u8],
    pub(crate) octets: &'a [u8],
}

impl<'a> Case<'a> {
    /// The case that a file of the corpus names: an octet with the version in its lowest two bits,
    /// the limits in the third and the number of piece sizes in the others, then the sizes, then
    /// the stream.
    pub(crate) fn of(data: &'a [u8]) -> Option<Self> {
        let (how, rest) = data.split_first()?;
        let (sizes, octets) = rest.split_at_checked(usize::from(how >> 3))?;
        Some(Self {
            version: Version::ALL.get(usize::from(how & 3)).copied(),
            limits: if how & 4 == 0 {
                Limits::default()
            } else {
                TIGHT
            },
            sizes,
            octets,
        })
    }

    /// Checks everything. Panics where something does not hold.
    pub(crate) fn check(&self) {
        let whole = self.read([self.octets]);
        let pieces = self.read(self.pieces());
        assert_eq!(whole, pieces, "how the octets are cut makes a difference");
        for decoded in &whole.0 {
            if let Decoded::Frame(frame) = decoded {
                self.check_frame(frame);
            }
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let sizes = if self.sizes.is_empty() {
            &[1]
        } else {
            self.sizes
        };
        // A round of empty pieces would never end.
        let endless = sizes.iter().all(|size| *size == 0);
        let mut sizes = sizes.iter().cycle();
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let size = sizes.next().map_or(1, |size| usize::from(*size));
            let size = if endless { 1 } else { size.min(rest.len()) };
            let (piece, after) = rest.split_at_checked(size)?;
            rest = after;
            (!piece.is_empty() || !rest.is_empty()).then_some(piece)
        })
    }

    /// Everything that the pieces hold, and the error that ended it.
    fn read(
        &self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Decoded>, Option<DecodeError>) {
        let mut decoder = self.decoder(self.limits);
        let mut all = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next() {
                    Ok(Some(decoded)) => all.push(decoded),
                    Ok(None) => break,
                    Err(error) => {
                        decoder.feed(b"SEND\n\n\0");
                        assert_eq!(decoder.next(), Err(error), "an error is the end");
                        assert_eq!(decoder.buffered(), 0);
                        return (all, Some(error));
                    }
                }
            }
            assert!(
                decoder.buffered() <= self.limits.frame_bytes,
                "{} octets are held for one frame",
                decoder.buffered()
            );
        }
        (all, None)
    }

    /// A frame is within the limits, and what is written of it is read as the same frame.
    fn check_frame(&self, frame: &Frame) {
        let lengths = || {
            frame
                .headers
                .iter()
                .map(|(name, value)| name.len() + value.len())
        };
        assert!(frame.headers.len() <= self.limits.headers);
        assert!(lengths().all(|length| length < self.limits.header_bytes));
        assert!(lengths().sum::<usize>() <= self.limits.headers_bytes);
        assert!(frame.body.len() < self.limits.frame_bytes);
        assert!(frame.body.is_empty() || frame.command.may_have_body());

        let version = self.version.unwrap_or(Version::V1_2);
        let octets = encode(frame, version);
        // Escapes make a frame longer than it was, so that the limits it came through are not
        // those that it is written for.
        let mut decoder = self.decoder(Limits {
            frame_bytes: usize::MAX,
            headers: usize::MAX,
            header_bytes: usize::MAX,
            headers_bytes: usize::MAX,
        });
        decoder.feed(&octets);
        let Ok(Some(Decoded::Frame(again))) = decoder.next() else {
            panic!("{octets:?} is no frame");
        };
        assert_eq!(decoder.next(), Ok(None), "{octets:?} is one frame");
        assert_eq!(decoder.buffered(), 0);
        assert_eq!(again.command, frame.command);
        assert_eq!(again.body, frame.body);
        let carries_cr = frame.command.escapes() && version < Version::V1_2;
        let expected: Vec<_> = application(frame)
            .map(|(name, value)| {
                // Read, it is part of the header; written, a space stands for it.
                let shown = |text: &str| {
                    if carries_cr {
                        text.replace('\r', " ")
                    } else {
                        text.to_owned()
                    }
                };
                (shown(name), shown(value))
            })
            .collect();
        let came: Vec<_> = application(&again)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(came, expected);
        assert_eq!(
            encode(&again, version),
            octets,
            "what was written once stays the same"
        );
    }

    fn decoder(&self, limits: Limits) -> Decoder {
        let mut decoder = Decoder::new(limits);
        if let Some(version) = self.version {
            decoder.set_version(version);
        }
        decoder
    }
}

/// The headers of a frame but `content-length`, which is the codec's.
fn application(frame: &Frame) -> impl Iterator<Item = (&str, &str)> {
    frame
        .headers
        .iter()
        .filter(|(name, _)| *name != "content-length")
}
