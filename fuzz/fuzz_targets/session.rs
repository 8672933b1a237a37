#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let mut d = shared::stomp::Decoder::new(Default::default()); d.feed(data); let _ = d.next(); });
