//! What the journal keeps in memory about a segment, and the names of files.

use super::record::HEADER_BYTES;

const SUFFIX: &str = ".segment";
const QUARANTINED: &str = ".damaged";

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Greater than all numbers used before. No number is used twice.
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The length of the good part of the file.
    pub(crate) bytes: u64,
    /// The latest time of a key in the segment. When the watermark has passed its deadline, the
    /// whole segment is removed.
    pub(crate) latest: u64,
    /// Whether bytes before the last good frame are damaged. Such a segment is not compacted, since
    /// nobody knows which keys these bytes held.
    pub(crate) is_damaged: bool,
    /// The least sequence of a frame with keys. A tombstone with a lower one covers nothing here.
    pub(crate) first: u64,
    /// The greatest sequence of any frame.
    last: u64,
    /// Whether no frame with keys stands behind a frame of a greater sequence. That frame may be a
    /// tombstone which covers the keys.
    pub(crate) is_in_order: bool,
}

impl Segment {
    pub(crate) fn new(number: u64, salt: u64) -> Self {
        let bytes = HEADER_BYTES as u64;
        Self { number, salt, bytes, latest: 0, is_damaged: false, first: u64::MAX, last: 0, is_in_order: true }
    }

    /// Takes the next frame into account.
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

    /// Whether all keys in the segment have expired.
    pub(crate) fn is_past(&self, span: u64, watermark: u64) -> bool {
        self.latest.saturating_add(span) < watermark
    }
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

/// The name of the file in which a segment's truncated tail is quarantined.
pub(crate) fn quarantined_name(segment: u64, number: u64) -> String {
    format!("{}.{number}{QUARANTINED}", name(segment))
}

/// The number in a segment's file name.
pub(crate) fn number(file: &str) -> Option<u64> {
    let number = file.strip_suffix(SUFFIX)?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// The number that a file of this name has used up, be it a segment or a quarantined tail.
pub(crate) fn used_number(file: &str) -> Option<u64> {
    let damaged = file.strip_suffix(QUARANTINED).and_then(|rest| rest.rsplit_once('.')?.1.parse().ok());
    damaged.max(number(file))
}
