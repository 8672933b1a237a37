//! Heart-beats.
