//! A journal that is damaged in any way, opened.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| oncewheel::testing::fuzzing::journal_open(script));
