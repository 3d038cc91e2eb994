//! The whole cache of one consumer, against the rule.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel::testing::fuzzing::unsync(bytes));
