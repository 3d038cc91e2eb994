//! Any bytes as a segment.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel::testing::fuzzing::journal_decode(bytes));
