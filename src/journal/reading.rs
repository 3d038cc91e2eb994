//! Reading every segment of a journal into a cache.
//!
//! Entries commute, so their order does not matter, unless keys evict others. The newest segment is
//! read first: it knows the latest watermark, which spares the cache the expired keys of older
//! segments.

use super::record::{Frame, Frames, HEADER_BYTES, Header, HeaderError, Item, Kind};
use super::segment::{self, Segment};
use super::{Cache, Damage, Error, ErrorKind, OpenMode, OpenOptions, OpenProgress, Recovery, Storage};
use crate::engine::Full;
use crate::key::KeyHasher;
use crate::{Fingerprint, Timestamp};
use std::collections::HashMap;
use std::path::PathBuf;

/// Keys that are handed to the cache at once.
const KEYS_AT_ONCE: usize = 8192;

/// What there is to read.
pub(super) struct Source<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) hasher: KeyHasher,
    /// Numbers and lengths, the newest first.
    pub(super) files: &'a [(u64, u64)],
}

impl Source<'_> {
    fn read(&self, number: u64) -> Result<Vec<u8>, Error> {
        read_whole(self.storage, &segment::name(number))
    }
}

/// A whole file: a segment is some tens of megabytes, or what one batch took.
pub(super) fn read_whole(storage: &dyn Storage, name: &str) -> Result<Vec<u8>, Error> {
    storage.read(name, 0, usize::MAX).map_err(|error| storage.failure("read", name, error))
}

/// Whether the segment was written under the secret of `hasher`.
pub(super) fn check_secret(
    storage: &dyn Storage,
    number: u64,
    header: &Header,
    hasher: &KeyHasher,
) -> Result<(), Error> {
    if header.secret_check == hasher.check(header.salt) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::SecretMismatch, storage.path(&segment::name(number))))
}

/// What was read.
pub(super) struct Read {
    pub(super) recovery: Recovery,
    pub(super) watermark: u64,
    pub(super) sequence: u64,
    /// By number.
    pub(super) segments: Vec<Segment>,
    pub(super) damage: Vec<Found>,
}

/// Damage, and what is to be done about it.
pub(super) struct Found {
    pub(super) public: Damage,
    pub(super) number: u64,
    pub(super) is_tail: bool,
}

pub(super) fn read_all(source: Source<'_>, cache: &mut dyn Cache, options: OpenOptions<'_>) -> Result<Read, Error> {
    let files = source.files;
    let bytes_in_all = files.iter().map(|(_, bytes)| bytes).sum();
    let mut reading = Reading {
        source,
        cache,
        options,
        progress: OpenProgress { bytes_read: 0, bytes_in_all, keys_read: 0 },
        entries: Vec::with_capacity(KEYS_AT_ONCE),
        watermark: 0,
        sequence: 0,
        tombstones: HashMap::new(),
        segments: Vec::new(),
        damage: Vec::new(),
    };
    if reading.cache.evicts() {
        // In the order in which they came, or older keys evict the newest. Tombstones and
        // watermarks must be known before any key is read, and they are in later segments.
        reading.read_all_marks()?;
        files.iter().rev().try_for_each(|(number, _)| reading.read_segment(*number))?;
    } else {
        let mut read = files.iter().try_for_each(|(number, _)| reading.read_segment(*number));
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::TooManyKeys) {
            // A key in a later segment than its own tombstone may have taken the place of another.
            reading.start_again()?;
            read = files.iter().try_for_each(|(number, _)| reading.read_segment(*number));
        }
        read?;
        reading.segments.reverse();
    }
    reading.apply_tombstones()?;
    reading.report();
    Ok(Read {
        recovery: Recovery {
            segments: files.len(),
            bytes_read: reading.progress.bytes_read,
            keys_read: reading.progress.keys_read,
            keys_restored: reading.cache.len(),
            damage: Vec::new(),
        },
        watermark: reading.watermark,
        sequence: reading.sequence,
        segments: reading.segments,
        damage: reading.damage,
    })
}

struct Reading<'a> {
    source: Source<'a>,
    cache: &'a mut dyn Cache,
    options: OpenOptions<'a>,
    progress: OpenProgress,
    /// Not yet handed to the cache.
    entries: Vec<(Fingerprint, Timestamp)>,
    watermark: u64,
    /// The greatest.
    sequence: u64,
    /// Of each removed key the sequence of its last tombstone, and whether a later frame has the
    /// key again.
    tombstones: HashMap<Fingerprint, (u64, bool)>,
    segments: Vec<Segment>,
    damage: Vec<Found>,
}

impl Reading<'_> {
    fn read_segment(&mut self, number: u64) -> Result<(), Error> {
        let bytes = self.source.read(number)?;
        let header = match Header::decode(&bytes) {
            Ok(header) => header,
            Err(HeaderError::Damaged) => {
                self.progress.bytes_read += bytes.len() as u64;
                // Also an empty file: a crash came between its creation and its first write.
                return self.note_damage(number, 0, bytes.len(), true);
            }
            Err(HeaderError::Version(version)) => {
                let (path, detail) = (self.path(number), format!("format {version}"));
                return Err(Error::with_detail(ErrorKind::UnsupportedVersion, path, detail));
            }
        };
        check_secret(self.source.storage, number, &header, &self.source.hasher)?;
        let mut segment = Segment::new(number, header.salt);
        self.read_marks(&bytes, header.salt);
        let mut read_before = 0;
        for item in Frames::new(&bytes, HEADER_BYTES, header.salt) {
            match item {
                Item::Damage { offset, bytes: length } => {
                    let is_tail = offset + length == bytes.len();
                    segment.is_damaged |= !is_tail;
                    segment.bytes += if is_tail { 0 } else { length as u64 };
                    self.note_damage(number, offset, length, is_tail)?;
                }
                Item::Frame(frame) => {
                    segment.bytes += frame.bytes() as u64;
                    segment.latest = frame.entries().map(|(_, time)| time).fold(segment.latest, u64::max);
                    segment.note(frame.mark.sequence, frame.has_keys());
                    self.read_keys(&frame);
                    if self.entries.len() >= KEYS_AT_ONCE {
                        self.hand_over()?;
                        self.progress.bytes_read += segment.bytes - std::mem::replace(&mut read_before, segment.bytes);
                        self.report();
                    }
                }
            }
        }
        self.hand_over()?;
        self.progress.bytes_read += bytes.len() as u64 - read_before;
        self.segments.push(segment);
        Ok(())
    }

    fn read_all_marks(&mut self) -> Result<(), Error> {
        for (number, _) in self.source.files {
            let bytes = self.source.read(*number)?;
            if let Ok(header) = Header::decode(&bytes) {
                self.read_marks(&bytes, header.salt);
            }
        }
        Ok(())
    }

    /// With all marks known, and no key held that has a tombstone. A key that was committed again
    /// after its tombstone is read again.
    fn start_again(&mut self) -> Result<(), Error> {
        self.read_all_marks()?;
        self.tombstones.keys().for_each(|key| self.cache.remove(*key));
        self.entries.clear();
        self.segments.clear();
        self.damage.clear();
        (self.progress.bytes_read, self.progress.keys_read) = (0, 0);
        Ok(())
    }

    /// Everything but the keys: what is known before they are restored need not be undone, and
    /// takes no quota meanwhile.
    fn read_marks(&mut self, bytes: &[u8], salt: u64) {
        for frame in frames(bytes, salt) {
            self.sequence = self.sequence.max(frame.mark.sequence);
            self.watermark = self.watermark.max(frame.mark.watermark);
            if frame.mark.kind == Kind::Removed {
                for (key, _) in frame.entries() {
                    let (sequence, _) = self.tombstones.entry(key).or_default();
                    *sequence = (*sequence).max(frame.mark.sequence);
                }
            }
        }
        self.cache.advance(self.watermark);
    }

    fn read_keys(&mut self, frame: &Frame<'_>) {
        if frame.mark.kind != Kind::Keys {
            return;
        }
        let is_gone = |key: &Fingerprint| {
            !self.tombstones.is_empty()
                && self.tombstones.get(key).is_some_and(|(sequence, _)| frame.mark.sequence < *sequence)
        };
        let keys = frame.entries().filter(|(key, _)| !is_gone(key));
        self.entries.extend(keys.map(|(key, time)| (key, Timestamp::from_millis(time))));
        self.progress.keys_read += frame.entries().len() as u64;
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let too_many = |Full| Error::new(ErrorKind::TooManyKeys, self.source.storage.path(""));
        self.cache.restore(&self.entries).map_err(too_many)?;
        self.entries.clear();
        Ok(())
    }

    /// Removes the keys that have a tombstone, unless they were committed again after it: a
    /// rewritten frame may be older than the segment that it is in. There are seldom any, so this
    /// is a second pass rather than a burden on the first.
    fn apply_tombstones(&mut self) -> Result<(), Error> {
        if self.tombstones.is_empty() {
            return Ok(());
        }
        for at in 0..self.segments.len() {
            let bytes = self.source.read(self.segments[at].number)?;
            let is_keys = |frame: &Frame<'_>| frame.mark.kind == Kind::Keys;
            for frame in frames(&bytes, self.segments[at].salt).filter(is_keys) {
                for (key, _) in frame.entries() {
                    if let Some((sequence, is_back)) = self.tombstones.get_mut(&key) {
                        *is_back |= frame.mark.sequence > *sequence;
                    }
                }
            }
        }
        let gone = self.tombstones.iter().filter(|(_, (_, is_back))| !is_back);
        gone.for_each(|(key, _)| self.cache.remove(*key));
        Ok(())
    }

    fn note_damage(&mut self, number: u64, offset: usize, bytes: usize, is_tail: bool) -> Result<(), Error> {
        let path = self.path(number);
        if bytes > 0 && self.options.mode == OpenMode::Strict {
            let detail = format!("{bytes} unreadable bytes at {offset}");
            return Err(Error::with_detail(ErrorKind::Damaged, path, detail));
        }
        let public = Damage { path, offset: offset as u64, bytes: bytes as u64, quarantined_in: None };
        self.damage.push(Found { public, number, is_tail });
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.source.storage.path(&segment::name(number))
    }

    fn report(&mut self) {
        let progress = self.progress;
        if let Some(on_progress) = &mut self.options.on_progress {
            on_progress(progress);
        }
    }
}

fn frames(bytes: &[u8], salt: u64) -> impl Iterator<Item = Frame<'_>> {
    Frames::new(bytes, HEADER_BYTES, salt).filter_map(|item| match item {
        Item::Frame(frame) => Some(frame),
        Item::Damage { .. } => None,
    })
}
