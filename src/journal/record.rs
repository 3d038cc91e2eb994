//! The bytes of a segment: encoding, decoding, checksums. No I/O.
//!
//! `docs/journal-format.md` describes the format. A test compares its example with this file.

use crate::Fingerprint;
use crate::key::KeyHasher;

/// The header is stored twice, so that a damaged byte does not cost a whole segment.
pub(crate) const HEADER_BYTES: usize = 2 * COPY_BYTES;
const COPY_BYTES: usize = 48;
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
pub(crate) const ENTRY_BYTES: usize = 24;
/// The most entries in a frame, and so the most that one damaged byte can cost.
pub(crate) const FRAME_ENTRIES_MAX: usize = 1024;
pub(crate) const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_ENTRIES_MAX * ENTRY_BYTES;
/// Frames begin at multiples of this many bytes.
const ALIGNMENT: usize = 8;
const MAGIC: [u8; 8] = *b"oncewhl\n";
const VERSION: u32 = 1;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT) && FRAME_HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(ENTRY_BYTES.is_multiple_of(ALIGNMENT) && FRAME_ENTRIES_MAX <= u16::MAX as usize);

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Part of every checksum, so that bytes of another segment never count as frames of this one.
    pub(crate) salt: u64,
    /// Milliseconds since the Unix epoch. Not used; for people who look at the file.
    pub(crate) created: u64,
    /// Identifies the secret: fingerprints under another secret mean other keys.
    pub(crate) secret_check: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Both copies are damaged.
    Damaged,
    /// Written by a later version of this library.
    Version(u32),
}

impl Header {
    pub(crate) fn new(salt: u64, created: u64, hasher: &KeyHasher) -> Self {
        Self { salt, created, secret_check: hasher.check(salt) }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut copy = [0; COPY_BYTES];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
        copy[16..24].copy_from_slice(&self.salt.to_le_bytes());
        copy[24..32].copy_from_slice(&self.created.to_le_bytes());
        copy[32..40].copy_from_slice(&self.secret_check.to_le_bytes());
        let checksum = crc32c::crc32c(&copy[..40]);
        copy[40..44].copy_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&copy);
        out.extend_from_slice(&copy);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut copies = bytes.chunks_exact(COPY_BYTES).take(2);
        let is_whole = |copy: &&[u8]| copy[..8] == MAGIC && u64_at(copy, 40) as u32 == crc32c::crc32c(&copy[..40]);
        let copy = copies.find(is_whole).ok_or(HeaderError::Damaged)?;
        match u64_at(copy, 8) as u32 {
            VERSION => Ok(Self { salt: u64_at(copy, 16), created: u64_at(copy, 24), secret_check: u64_at(copy, 32) }),
            version => Err(HeaderError::Version(version)),
        }
    }
}

/// The kind of a frame's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Committed keys with their messages' times. A frame without entries carries a watermark only.
    Keys = 1,
    /// Tombstones: keys removed on purpose. They cancel entries under a lower sequence. Their time
    /// is the latest of any key in the journal, so a tombstone outlives the entries that it covers.
    Removed = 2,
}

/// A frame without its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    /// Later frames have greater sequences. A frame that is rewritten may keep its own.
    pub(crate) sequence: u64,
    /// The watermark when the frame was written, in milliseconds; 0: unknown.
    pub(crate) watermark: u64,
}

/// A key and a time in milliseconds.
pub(crate) type Entry = (Fingerprint, u64);

pub(crate) fn encode_entry((key, time): Entry, out: &mut Vec<u8>) {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..16].copy_from_slice(&key.as_u128().to_le_bytes());
    bytes[16..].copy_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Encodes a frame. `entries` are encoded already: a whole number, `FRAME_ENTRIES_MAX` at most.
pub(crate) fn encode_frame(salt: u64, mark: &Mark, entries: &[u8], out: &mut Vec<u8>) {
    debug_assert!(entries.len().is_multiple_of(ENTRY_BYTES) && entries.len() <= FRAME_ENTRIES_MAX * ENTRY_BYTES);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[4..8].copy_from_slice(&checksum(salt, entries).to_le_bytes());
    header[8..16].copy_from_slice(&mark.sequence.to_le_bytes());
    header[16..24].copy_from_slice(&mark.watermark.to_le_bytes());
    header[24..28].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    header[28..30].copy_from_slice(&((entries.len() / ENTRY_BYTES) as u16).to_le_bytes());
    header[30] = mark.kind as u8;
    let header_checksum = checksum(salt, &header[4..]);
    header[..4].copy_from_slice(&header_checksum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(entries);
}

/// A frame whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) mark: Mark,
    contents: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = Entry> {
        self.contents.chunks_exact(ENTRY_BYTES).map(|entry| {
            let key = u128::from(u64_at(entry, 0)) | u128::from(u64_at(entry, 8)) << 64;
            (Fingerprint::from_u128(key), u64_at(entry, 16))
        })
    }

    /// Whether the frame has committed keys.
    pub(crate) fn has_keys(&self) -> bool {
        self.mark.kind == Kind::Keys && !self.contents.is_empty()
    }

    pub(crate) fn contents(&self) -> &[u8] {
        self.contents
    }

    pub(crate) fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.contents.len()
    }
}

/// What follows the header of a segment.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Frame(Frame<'a>),
    /// Bytes that are no frame, up to the next good one or the end. At the end they are the
    /// truncated tail.
    Damage {
        offset: usize,
        bytes: usize,
    },
}

/// Reads one frame after another. Behind damage, it searches for the next good frame.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    salt: u64,
    at: usize,
}

impl<'a> Frames<'a> {
    /// `start`: the offset of the first frame in `bytes`.
    pub(crate) fn new(bytes: &'a [u8], start: usize, salt: u64) -> Self {
        Self { bytes, salt, at: start.min(bytes.len()) }
    }

    fn frame_at(&self, at: usize) -> Option<Frame<'a>> {
        let (header, rest) = self.bytes.get(at..)?.split_at_checked(FRAME_HEADER_BYTES)?;
        if u64_at(header, 0) as u32 != checksum(self.salt, &header[4..]) {
            return None;
        }
        let sizes = u64_at(header, 24);
        let (length, count) = (sizes as u32 as usize, usize::from((sizes >> 32) as u16));
        let kind = match header[30] {
            1 => Kind::Keys,
            2 => Kind::Removed,
            _ => return None,
        };
        let contents = rest.get(..length)?;
        let is_whole =
            length == count * ENTRY_BYTES && (u64_at(header, 0) >> 32) as u32 == checksum(self.salt, contents);
        let mark = Mark { kind, sequence: u64_at(header, 8), watermark: u64_at(header, 16) };
        is_whole.then_some(Frame { mark, contents })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.at == self.bytes.len() {
            return None;
        }
        if let Some(frame) = self.frame_at(self.at) {
            self.at += frame.bytes();
            return Some(Item::Frame(frame));
        }
        let offset = self.at;
        let places = (offset..self.bytes.len()).step_by(ALIGNMENT);
        self.at = places.skip(1).find(|at| self.frame_at(*at).is_some()).unwrap_or(self.bytes.len());
        Some(Item::Damage { offset, bytes: self.at - offset })
    }
}

pub(crate) fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

/// The slice must have 8 bytes from `at` on.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
