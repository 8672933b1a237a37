//! Frames: line ends, lengths, escapes, repeated headers, and how WebSocket messages carry them.
