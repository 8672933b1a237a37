//! What reads headers, tokens and names that strangers write.
#![no_main]

#[path = "../../gateway/tests/it/parsers_oracle/mod.rs"]
mod parsers_oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: &[u8]| parsers_oracle::check(case));
