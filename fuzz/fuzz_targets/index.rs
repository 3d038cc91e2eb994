//! The index, against a map.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel::testing::fuzzing::index(bytes));
