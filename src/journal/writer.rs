//! Appending to the journal: one write for each call, and what follows when it fails.

use super::record::{self, ENTRY_BYTES, FRAME_ENTRIES_MAX, Frames, Header, Item, Kind, Mark};
use super::segment::{self, Segment};
use super::storage::Appender;
use super::{Durability, Error, ErrorKind, Storage};
use crate::events;
use crate::key::{KeyHasher, random};
use crate::{Fingerprint, Timestamp};
use std::io;

/// A segment is a quarter of what the live keys take, within these bounds: small enough that few
/// bytes wait for a segment's last key, large enough that files are few.
pub(super) const SEGMENT_BYTES_MIN: u64 = 1 << 16;
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 26;
/// How much of the largest batch's buffer is kept for the next one.
const KEPT_BYTES: usize = 1 << 20;
/// Bytes appended between two rounds of maintenance.
pub(super) const MAINTENANCE_BYTES: u64 = 1 << 14;

/// What one write makes durable: keys to insert, keys to remove.
#[derive(Default)]
pub(crate) struct Ops {
    /// Encoded.
    keys: Vec<u8>,
    latest: u64,
    removed: Vec<Fingerprint>,
}

impl Ops {
    pub(crate) fn insert(&mut self, key: Fingerprint, time: u64) {
        record::encode_entry((key, time), &mut self.keys);
        self.latest = self.latest.max(time);
    }

    pub(crate) fn remove(&mut self, key: Fingerprint) {
        self.removed.push(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.removed.is_empty()
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.keys.append(&mut other.keys);
        self.removed.append(&mut other.removed);
        self.latest = self.latest.max(std::mem::take(&mut other.latest));
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.keys.shrink_to(KEPT_BYTES);
        self.removed.clear();
        self.latest = 0;
    }
}

pub(crate) struct Writer {
    pub(super) storage: Box<dyn Storage>,
    durability: Durability,
    hasher: KeyHasher,
    /// `max_retry + max_network` in milliseconds
    pub(super) span: u64,
    /// By number. Nothing more is appended to them.
    pub(super) sealed: Vec<Segment>,
    pub(super) active: Option<Active>,
    /// Files of sealed segments that are not synced.
    unsynced: Vec<Box<dyn Appender>>,
    /// Whether a loss of power may lose a file's name.
    has_unsynced_names: bool,
    next_number: u64,
    pub(super) next_sequence: u64,
    /// As appended.
    watermark: u64,
    pub(super) segment_bytes_max: u64,
    pub(super) appended_bytes: u64,
    /// The segment that is being rewritten, and how far.
    pub(super) rewriting: Option<(u64, u64)>,
    /// Why nothing more is appended.
    poisoned: Option<Error>,
    /// Failures that no caller was told.
    pub(super) failures: u64,
    frames: Vec<u8>,
}

pub(super) struct Active {
    pub(super) segment: Segment,
    file: Box<dyn Appender>,
    /// Its header is not written yet.
    is_new: bool,
    is_synced: bool,
}

/// A frame to be written: under a sequence of its own, or the next.
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) sequence: Option<u64>,
    pub(super) entries: &'a [u8],
    pub(super) latest: u64,
}

impl Writer {
    /// `sealed`: by number.
    pub(super) fn new(
        storage: Box<dyn Storage>,
        durability: Durability,
        hasher: KeyHasher,
        span: u64,
        sealed: Vec<Segment>,
    ) -> Self {
        Self {
            storage,
            durability,
            hasher,
            span,
            sealed,
            active: None,
            unsynced: Vec::new(),
            has_unsynced_names: false,
            next_number: 0,
            next_sequence: 1,
            watermark: 0,
            segment_bytes_max: SEGMENT_BYTES_MIN,
            appended_bytes: 0,
            rewriting: None,
            poisoned: None,
            failures: 0,
            frames: Vec::new(),
        }
    }

    /// Continues where an earlier writer ended.
    pub(super) fn resume(mut self, next_number: u64, next_sequence: u64, watermark: u64) -> Self {
        (self.next_number, self.next_sequence, self.watermark) = (next_number, next_sequence, watermark);
        self
    }

    /// Bytes that the segments take.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// Whether it is time for `maintain`.
    pub(crate) fn is_due(&self) -> bool {
        self.appended_bytes >= MAINTENANCE_BYTES
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain(self.active.as_ref().map(|active| &active.segment))
    }

    /// Refused if an earlier failure has poisoned the journal.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    /// Writes the watermark, and frees the directory: nothing is appended any more.
    pub(crate) fn close(&mut self, watermark: u64) -> Result<(), Error> {
        if self.poisoned.as_ref().is_some_and(|error| error.kind() == ErrorKind::Closed) {
            return Ok(());
        }
        let written = self.commit(&Ops::default(), watermark);
        self.poisoned = Some(Error::new(ErrorKind::Closed, self.storage.path("")));
        self.active = None;
        self.unsynced.clear();
        self.storage.unlock();
        written
    }

    /// Makes `ops` and the watermark as durable as configured. After an error nothing of it counts,
    /// now or after a restart, unless the error is
    /// [`ErrorKind::Poisoned`](super::ErrorKind::Poisoned).
    pub(crate) fn commit(&mut self, ops: &Ops, watermark: u64) -> Result<(), Error> {
        let mut drafts = Vec::new();
        let mut tombstones = Vec::new();
        if !ops.removed.is_empty() {
            // No key outlives its tombstone, whichever segment holds the key.
            let latest = self.segments().map(|segment| segment.latest).fold(ops.latest, u64::max);
            ops.removed.iter().for_each(|key| record::encode_entry((*key, latest), &mut tombstones));
            for entries in tombstones.chunks(FRAME_ENTRIES_MAX * ENTRY_BYTES) {
                drafts.push(Draft { kind: Kind::Removed, sequence: None, entries, latest });
            }
        }
        // After the tombstones: a key in both was evicted while its removal was pending, and then
        // inserted again.
        for entries in ops.keys.chunks(FRAME_ENTRIES_MAX * ENTRY_BYTES) {
            drafts.push(Draft { kind: Kind::Keys, sequence: None, entries, latest: ops.latest });
        }
        if drafts.is_empty() {
            if watermark <= self.watermark {
                return self.check();
            }
            drafts.push(Draft { kind: Kind::Keys, sequence: None, entries: &[], latest: 0 });
        }
        self.append(&drafts, watermark)
    }

    pub(super) fn append(&mut self, drafts: &[Draft<'_>], watermark: u64) -> Result<(), Error> {
        self.check()?;
        let watermark = watermark.max(self.watermark);
        if self.active.as_ref().is_some_and(|active| active.segment.bytes >= self.segment_bytes_max) {
            self.seal();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.create()?,
        };
        self.encode(drafts, watermark, &mut active);
        let latest = drafts.iter().map(|draft| draft.latest).fold(0, u64::max);
        match active.file.append(&self.frames) {
            Ok(()) => self.finish(active, latest),
            Err(error) => Err(self.undo(active, error)),
        }?;
        self.watermark = watermark;
        Ok(())
    }

    fn encode(&mut self, drafts: &[Draft<'_>], watermark: u64, active: &mut Active) {
        self.frames.clear();
        self.frames.shrink_to(KEPT_BYTES);
        if active.is_new {
            let created = Timestamp::now().as_millis();
            Header::new(active.segment.salt, created, &self.hasher).encode(&mut self.frames);
        }
        for Draft { kind, sequence, entries, .. } in drafts {
            let sequence = sequence.unwrap_or(self.next_sequence);
            active.segment.note(sequence, *kind == Kind::Keys && !entries.is_empty());
            self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
            let mark = Mark { kind: *kind, sequence, watermark };
            record::encode_frame(active.segment.salt, &mark, entries, &mut self.frames);
        }
    }

    /// Makes durable what was appended.
    fn finish(&mut self, mut active: Active, latest: u64) -> Result<(), Error> {
        active.is_synced = false;
        let synced = match self.durability {
            Durability::Power => self.sync(&mut active),
            // More than was promised: so that a loss of power does not lose the whole file.
            Durability::Process if active.is_new => {
                self.has_unsynced_names = self.storage.sync_dir().is_err();
                self.failures += u64::from(self.has_unsynced_names);
                Ok(())
            }
            _ => Ok(()),
        };
        match synced {
            Ok(()) => self.keep(active, latest),
            Err(error) => self.move_to_another(active, latest, error)?,
        }
        Ok(())
    }

    fn keep(&mut self, mut active: Active, latest: u64) {
        let written = self.frames.len() as u64;
        active.segment.bytes = if active.is_new { written } else { active.segment.bytes + written };
        active.segment.latest = active.segment.latest.max(latest);
        active.is_new = false;
        self.appended_bytes += written;
        self.active = Some(active);
    }

    fn sync(&self, active: &mut Active) -> io::Result<()> {
        active.file.sync()?;
        if active.is_new {
            self.storage.sync_dir()?;
        }
        active.is_synced = true;
        Ok(())
    }

    /// After a failed sync a file is never trusted again: the system may have dropped what it could
    /// not write, and report success the next time. What the file held before is on disk; the
    /// frames go to a new file.
    fn move_to_another(&mut self, active: Active, latest: u64, error: io::Error) -> Result<(), Error> {
        let name = active.segment.name();
        let failure = self.storage.failure("sync", &name, error);
        let salt = active.segment.salt;
        let start = if active.is_new { record::HEADER_BYTES } else { 0 };
        let _ = self.cut_back(active); // if that fails, the frames are there twice, which is as good
        let frames = std::mem::take(&mut self.frames);
        let moved = self.create().and_then(|mut other| {
            self.encode(&[], 0, &mut other);
            for item in Frames::new(&frames, start, salt) {
                if let Item::Frame(frame) = item {
                    other.segment.note(frame.mark.sequence, frame.has_keys());
                    record::encode_frame(other.segment.salt, &frame.mark, frame.contents(), &mut self.frames);
                }
            }
            let written = other.file.append(&self.frames).and_then(|()| self.sync(&mut other));
            match written {
                Ok(()) => {
                    self.keep(other, latest);
                    Ok(())
                }
                Err(_) => {
                    let _ = self.cut_back(other); // the journal is poisoned in any case
                    Err(failure.clone())
                }
            }
        });
        self.failures += 1;
        moved.map_err(|_| self.poison(failure))
    }

    /// Undoes what a failed write may have left.
    fn undo(&mut self, active: Active, error: io::Error) -> Error {
        let failure = self.storage.failure("write to", &active.segment.name(), error);
        match self.cut_back(active) {
            Ok(()) => failure,
            Err(_) => self.poison(failure),
        }
    }

    /// Cuts a file back to its length before the last write, and seals it.
    fn cut_back(&mut self, active: Active) -> io::Result<()> {
        let Active { segment, is_new, .. } = active;
        if is_new {
            let removed = self.storage.remove(&segment.name()).and_then(|()| self.storage.sync_dir());
            if removed.is_err() {
                self.sealed.push(segment); // its bytes may be read after a restart
            }
            return removed;
        }
        let cut = self.storage.truncate(&segment.name(), segment.bytes);
        self.sealed.push(segment);
        cut
    }

    fn poison(&mut self, failure: Error) -> Error {
        let error = failure.poisoning();
        events::poisoned(&error);
        self.poisoned.insert(error).clone()
    }

    fn create(&mut self) -> Result<Active, Error> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1); // past the last, creation fails: the name exists
        let name = segment::name(number);
        let file = self.storage.create(&name).map_err(|error| self.storage.failure("create", &name, error))?;
        let [a, b, c, d, e, f, g, h, ..] = random();
        let segment = Segment::new(number, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        Ok(Active { segment, file, is_new: true, is_synced: false })
    }

    /// Nothing more is appended to the active segment.
    pub(super) fn seal(&mut self) {
        if let Some(Active { segment, file, is_synced, .. }) = self.active.take() {
            self.sealed.push(segment);
            if !is_synced {
                self.unsynced.push(file);
            }
        }
    }

    /// Called before anything is removed on account of what was written: that then outlasts a loss
    /// of power, whatever the durability. The system has written most of it by then.
    pub(super) fn sync_all(&mut self, watermark: u64) -> Result<(), Error> {
        if self.active.is_none() || self.watermark < watermark {
            let mark = Draft { kind: Kind::Keys, sequence: None, entries: &[], latest: 0 };
            self.append(&[mark], watermark)?;
        }
        if self.has_unsynced_names {
            self.storage.sync_dir().map_err(|error| self.storage.failure("sync", "", error))?;
            self.has_unsynced_names = false;
        }
        // A sync that fails is not tried again: a second one may report success without writing.
        let synced = std::mem::take(&mut self.unsynced).into_iter().map(|mut file| file.sync());
        let sealed = synced.fold(Ok(()), io::Result::and);
        let active = match &mut self.active {
            Some(active) if !active.is_synced => active.file.sync(),
            _ => Ok(()),
        };
        if active.is_err() {
            // As in `move_to_another`, but nothing was promised that would have to be written
            // again.
            self.active.take().into_iter().for_each(|active| self.sealed.push(active.segment));
        } else if let Some(active) = &mut self.active {
            active.is_synced = true;
        }
        sealed.and(active).map_err(|error| {
            self.rewriting = None; // rewritten keys may be in such a file
            self.storage.failure("sync", "", error)
        })
    }
}
