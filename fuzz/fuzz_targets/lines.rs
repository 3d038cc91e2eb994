//! The command's reader of lines and fields, against the definition of a line and another reader of
//! JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oncewheel_cli::fuzzing::lines(bytes));
