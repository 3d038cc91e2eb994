//! What is known of a segment besides its bytes.

use super::record::HEADER_BYTES;

const SUFFIX: &str = ".segment";

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
}

impl Segment {
    pub(crate) fn new(number: u64, salt: u64) -> Self {
        Self { number, salt, bytes: HEADER_BYTES as u64, latest: 0, is_damaged: false }
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

/// The number of the segment that a file of this name is, or the greater of the two of an end that was set aside: the next
/// end must not get the name of one whose setting aside was cut short.
pub(crate) fn number(name: &str) -> Option<u64> {
    let (number, rest) = name.split_once(SUFFIX)?;
    let number = number.parse().ok()?;
    if rest.is_empty() {
        return Some(number);
    }
    let aside = rest.strip_suffix(".damaged")?.trim_start_matches('.');
    Some(aside.parse().map_or(number, |aside: u64| aside.max(number)))
}

pub(crate) fn is_segment(file: &str) -> bool {
    number(file).is_some_and(|number| name(number) == file)
}
