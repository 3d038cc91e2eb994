//! The pool of chunks, against lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel::testing::fuzzing::pool(bytes));
