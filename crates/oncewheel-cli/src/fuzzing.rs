//! What the fuzzer calls, with any bytes, and the tests with what is kept in `fuzz/corpus/lines`
//! and others like that.

use crate::delivery::time_of;
use crate::fields::{Fields, Path, Value};
use crate::lines::Lines;
use crate::units::Unit;
use std::io::{self, ErrorKind, Read};

const WANTED: [&str; 4] = ["key", "a.b", "a.b.c", "now"];
/// Where each may be, as JSON pointers.
const READINGS: [&[&str]; 4] = [&["/key"], &["/a/b", "/a.b"], &["/a/b/c", "/a.b/c", "/a/b.c", "/a.b.c"], &["/now"]];
/// A byte that stands for many, so that a line can outgrow the buffer.
const MANY: u8 = 1;

/// Lines are what stands between newlines, however the bytes arrive; and the fields of a line that
/// is read are those that another reader of JSON finds.
pub fn lines(bytes: &[u8]) {
    let Some((how, text)) = bytes.split_first() else { return };
    let text = blown_up(text);
    let pieces = [1, 3, 100, 1 << 18, usize::MAX][usize::from(how % 5)];
    let pieces = if text.len() > 10_000 { pieces.max(997) } else { pieces };
    let mut lines = Lines::new(Trickle { text: &text, pieces, interrupts: *how >= 128, reads: 0 });
    let mut expected = text.split_inclusive(|byte| *byte == b'\n');
    loop {
        while let Some((line, _)) = lines.next() {
            assert!(line.ends_with(b"\n"));
            assert_eq!(Some(line), expected.next());
            compare_fields(line);
        }
        if !lines.read_on().expect("no error but those that are to be met by another try") {
            break;
        }
    }
    assert_eq!(lines.rest(), expected.next());
    lines.rest().into_iter().for_each(compare_fields);
    assert_eq!(expected.next(), None);
}

fn blown_up(text: &[u8]) -> Vec<u8> {
    let mut left = 6;
    let mut all = Vec::new();
    for byte in text {
        let times = if *byte == MANY && left > 0 { 100_000 } else { 1 };
        left -= usize::from(times > 1);
        all.extend(std::iter::repeat_n(*byte, times));
    }
    all
}

/// Gives out at most so many bytes at a time.
struct Trickle<'a> {
    text: &'a [u8],
    pieces: usize,
    interrupts: bool,
    reads: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.interrupts && self.reads.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        let bytes = self.pieces.min(into.len());
        self.text.read(&mut into[..bytes])
    }
}

/// Values that are not wanted are only skipped, so that more is accepted there: numbers too large,
/// brackets too deep.
fn compare_fields(line: &[u8]) {
    let paths: [Path; 4] = WANTED.map(|path| path.parse().expect("a path"));
    let read = Fields::new(paths.each_ref()).read(line);
    let json: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    match (read, json) {
        (Ok(values), Some(json)) => {
            for (value, readings) in values.iter().zip(READINGS) {
                let mut found = readings.iter().filter_map(|pointer| json.pointer(pointer));
                let (first, second) = (found.next(), found.next());
                assert!(
                    is_same(value, first) && second.is_none(),
                    "{readings:?}: {value:?}, not {first:?}, {second:?}"
                );
            }
            let times = values.iter().flat_map(|value| Unit::ALL.map(|unit| time_of(value, "time", unit)));
            times.for_each(|time| assert!(time.is_err() || matches!(time, Ok((_, number)) if number != Some(0))));
        }
        (Err(error), Some(json)) => assert!(!json.is_object() || error.contains(" is there twice"), "{error}"),
        (_, None) => {}
    }
}

fn is_same(value: &Value<'_>, json: Option<&serde_json::Value>) -> bool {
    match (value, json) {
        (Value::Absent, None) => true,
        (Value::Null, Some(json)) => json.is_null(),
        (Value::Unsigned(number), Some(json)) => json.as_u64() == Some(*number),
        (Value::Negative(number), Some(json)) => json.as_i64() == Some(*number),
        // The other reader makes a float of it.
        (Value::Digits(digits), Some(json)) => json.is_f64() && !digits.contains(['.', 'e', 'E']),
        (Value::Text(text), Some(json)) => json.as_str() == Some(text),
        (Value::Other(_), Some(json)) => json.is_boolean() || json.is_array() || json.is_object() || json.is_f64(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "../../../src/testing/fuzzing/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn lines() {
        super::replay::replay("lines", super::lines);
    }
}
