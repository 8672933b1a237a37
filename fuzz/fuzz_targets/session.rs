//! The session on a script of everything that can happen to it.
#![no_main]

#[path = "../../gateway/tests/it/session_oracle/mod.rs"]
mod session_oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| session_oracle::check(script));
