//! The command's reader of lines and fields, against the definition of a line and another reader of JSON.
#![no_main]
#![allow(dead_code, reason = "of the command's files, what this target does not call")]

#[path = "../../src/bin/oncewheel/fields.rs"]
mod fields;
#[path = "../../src/bin/oncewheel/fuzzing.rs"]
mod fuzzing;
#[path = "../../src/bin/oncewheel/lines.rs"]
mod lines;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::lines(bytes));
