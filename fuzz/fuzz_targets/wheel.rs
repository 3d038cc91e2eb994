//! The timing wheel, against a list of deadlines.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel::testing::fuzzing::wheel(bytes));
