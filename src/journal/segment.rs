//! What is known of a segment besides its bytes.

use super::record::HEADER_BYTES;

const SUFFIX: &str = ".segment";
const DAMAGED: &str = ".damaged";

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Each is greater than those before; none is used again.
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// Its length, as far as it is good.
    pub(crate) bytes: u64,
    /// The latest time of a key in it: once the watermark is past that one's deadline, it goes as a whole.
    pub(crate) latest: u64,
    /// Whether bytes in its midst could not be read. Such a one is not rewritten: who knows what they hold.
    pub(crate) is_damaged: bool,
    /// The least sequence of a frame of keys in it: a tombstone that is older than all of these covers nothing.
    pub(crate) first: u64,
    /// The greatest sequence of any frame.
    last: u64,
    /// Whether no frame of keys follows one of a greater sequence, which may be a tombstone that covers it.
    pub(crate) is_in_order: bool,
}

impl Segment {
    pub(crate) fn new(number: u64, salt: u64) -> Self {
        let bytes = HEADER_BYTES as u64;
        Self { number, salt, bytes, latest: 0, is_damaged: false, first: u64::MAX, last: 0, is_in_order: true }
    }

    /// Takes note of the next frame.
    pub(crate) fn note(&mut self, sequence: u64, has_keys: bool) {
        if has_keys {
            self.first = self.first.min(sequence);
            self.is_in_order &= sequence >= self.last;
        }
        self.last = self.last.max(sequence);
    }

    pub(crate) fn name(&self) -> String {
        name(self.number)
    }

    /// Whether no copy can come any more of any message in it.
    pub(crate) fn is_past(&self, span: u64, watermark: u64) -> bool {
        self.latest.saturating_add(span) < watermark
    }
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

/// Of the end of a segment that is kept aside.
pub(crate) fn damaged_name(segment: u64, number: u64) -> String {
    format!("{}.{number}{DAMAGED}", name(segment))
}

/// The number of a segment's file.
pub(crate) fn number(file: &str) -> Option<u64> {
    let number = file.strip_suffix(SUFFIX)?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// The greatest number that a file of this name has used up.
pub(crate) fn used_number(file: &str) -> Option<u64> {
    let damaged = file.strip_suffix(DAMAGED).and_then(|rest| rest.rsplit_once('.')?.1.parse().ok());
    damaged.max(number(file))
}
