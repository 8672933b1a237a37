//! A connection to a gateway, on octets and the sizes of their pieces.
#![no_main]

#[path = "../../gateway/tests/it/http_oracle/mod.rs"]
mod http_oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: &[u8]| http_oracle::check(case));
