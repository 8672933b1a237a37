//! The decoder on octets and the sizes of their pieces.
#![no_main]

#[path = "../../shared/tests/it/stomp_oracle.rs"]
mod stomp_oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(case) = stomp_oracle::Case::of(data) {
        case.check();
    }
});
