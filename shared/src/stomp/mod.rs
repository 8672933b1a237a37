//! STOMP 1.0, 1.1 and 1.2 without any I/O: octets in, frames out, and the other way round.
//!
//! "STOMP 1.2, Body" and the like in this module name the sections of the specifications at
//! <https://stomp.github.io>.

mod decode;
mod encode;
mod error;
mod escape;
mod frame;
pub mod heartbeat;

pub use self::decode::{Decoded, Decoder, Limits};
pub use self::encode::{Encoder, encode};
pub use self::error::DecodeError;
pub use self::frame::{Command, Frame, HeaderList, Version};
