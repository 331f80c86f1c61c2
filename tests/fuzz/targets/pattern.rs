#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanwarden_tests::fuzz::patterns::pattern(data));
