//! Appending: one write for each call, and what is to be done when it fails.

use super::opening::failed;
use super::record::{self, ENTRY_BYTES, FRAME_ENTRIES_MAX, Frames, Header, Item, Kind, Mark};
use super::segment::{self, Segment};
use super::storage::Appender;
use super::{Durability, JournalError, Storage};
use crate::fingerprint::{Secret, random};
use crate::{Fingerprint, Timestamp};
use std::io;

/// A segment is a quarter of what the live keys take, within these bounds: small enough that few bytes wait for a
/// segment's last key, large enough that files are few.
pub(super) const SEGMENT_BYTES_MIN: u64 = 1 << 16;
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 26;
/// Of what the largest batch took up, so much is kept for the next.
const KEPT_BYTES: usize = 1 << 20;
/// Bytes appended between two rounds of maintenance.
pub(super) const MAINTENANCE_BYTES: u64 = 1 << 14;

/// What one write makes durable.
#[derive(Default)]
pub(crate) struct Ops {
    /// Encoded.
    keys: Vec<u8>,
    latest: u64,
    forgotten: Vec<Fingerprint>,
}

impl Ops {
    pub(crate) fn record(&mut self, key: Fingerprint, time: u64) {
        record::encode_entry((key, time), &mut self.keys);
        self.latest = self.latest.max(time);
    }

    pub(crate) fn forget(&mut self, key: Fingerprint) {
        self.forgotten.push(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.forgotten.is_empty()
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.keys.append(&mut other.keys);
        self.forgotten.append(&mut other.forgotten);
        self.latest = self.latest.max(std::mem::take(&mut other.latest));
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.keys.shrink_to(KEPT_BYTES);
        self.forgotten.clear();
        self.latest = 0;
    }
}

pub(crate) struct Writer {
    pub(super) storage: Box<dyn Storage>,
    durability: Durability,
    secret: Secret,
    /// `max_retry + max_network` in milliseconds
    pub(super) span: u64,
    /// By number. Nothing is appended to them any more.
    pub(super) sealed: Vec<Segment>,
    pub(super) active: Option<Active>,
    /// Files that are sealed and not synced.
    unsynced: Vec<Box<dyn Appender>>,
    /// Whether a file's name may be lost with the power.
    has_unsynced_names: bool,
    next_number: u64,
    pub(super) next_sequence: u64,
    /// As recorded.
    watermark: u64,
    pub(super) segment_bytes_max: u64,
    pub(super) appended_bytes: u64,
    /// The segment that is being rewritten, and how far.
    pub(super) rewriting: Option<(u64, u64)>,
    /// Why nothing more is recorded.
    stopped: Option<JournalError>,
    /// What went wrong without a caller to tell it to.
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
    pub(crate) fn new(
        storage: Box<dyn Storage>,
        durability: Durability,
        secret: Secret,
        span: u64,
        sealed: Vec<Segment>,
    ) -> Self {
        Self {
            storage,
            durability,
            secret,
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
            stopped: None,
            failures: 0,
            frames: Vec::new(),
        }
    }

    /// Where an earlier writer has left off.
    pub(crate) fn go_on(mut self, next_number: u64, next_sequence: u64, watermark: u64) -> Self {
        (self.next_number, self.next_sequence, self.watermark) = (next_number, next_sequence, watermark);
        self
    }

    /// Bytes that the segments take.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// Counts a failure that its caller cannot be told.
    pub(crate) fn note<T>(&mut self, result: &Result<T, JournalError>) {
        self.failures += u64::from(result.is_err());
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

    /// Refused if an earlier failure has left the journal in a state that cannot be trusted.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Makes `ops` and the watermark as durable as was asked for. After an error nothing of it counts, now or after a
    /// restart, unless the error says otherwise ([`Problem::Stopped`](super::Problem::Stopped)).
    pub(crate) fn record(&mut self, ops: &Ops, watermark: u64) -> Result<(), JournalError> {
        let mut drafts = Vec::new();
        let mut tombstones = Vec::new();
        if !ops.forgotten.is_empty() {
            // No key outlives its tombstone, whichever segment it is in.
            let latest = self.segments().map(|segment| segment.latest).fold(ops.latest, u64::max);
            ops.forgotten.iter().for_each(|key| record::encode_entry((*key, latest), &mut tombstones));
            for entries in tombstones.chunks(FRAME_ENTRIES_MAX * ENTRY_BYTES) {
                drafts.push(Draft { kind: Kind::Removed, sequence: None, entries, latest });
            }
        }
        // After the tombstones: a key of both was evicted while it was being forgotten, and came again.
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

    pub(super) fn append(&mut self, drafts: &[Draft<'_>], watermark: u64) -> Result<(), JournalError> {
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
            Ok(()) => self.settle(active, latest),
            Err(error) => Err(self.undo(active, &error)),
        }?;
        self.watermark = watermark;
        Ok(())
    }

    fn encode(&mut self, drafts: &[Draft<'_>], watermark: u64, active: &mut Active) {
        self.frames.clear();
        self.frames.shrink_to(KEPT_BYTES);
        if active.is_new {
            let created = Timestamp::now().as_millis();
            Header::new(active.segment.salt, created, &self.secret).encode(&mut self.frames);
        }
        for Draft { kind, sequence, entries, .. } in drafts {
            let sequence = sequence.unwrap_or(self.next_sequence);
            active.segment.note(sequence, *kind == Kind::Keys && !entries.is_empty());
            self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
            let mark = Mark { kind: *kind, sequence, watermark };
            record::encode_frame(active.segment.salt, &mark, entries, &mut self.frames);
        }
    }

    /// What was appended is durable as soon as this is through with it.
    fn settle(&mut self, mut active: Active, latest: u64) -> Result<(), JournalError> {
        active.is_synced = false;
        let synced = match self.durability {
            Durability::Power => self.sync(&mut active),
            // Not what was asked for, but a kindness: so that the file is not lost as a whole.
            Durability::Process if active.is_new => {
                self.has_unsynced_names = self.storage.sync_dir().is_err();
                self.failures += u64::from(self.has_unsynced_names);
                Ok(())
            }
            _ => Ok(()),
        };
        match synced {
            Ok(()) => self.keep(active, latest),
            Err(error) => self.move_to_another(active, latest, &error)?,
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

    /// After a failed sync a file is never trusted again: the system may have dropped what it could not write, and say that
    /// all is well the next time. What it had before is on disk; the frames go to a new one.
    fn move_to_another(&mut self, active: Active, latest: u64, error: &io::Error) -> Result<(), JournalError> {
        let name = active.segment.name();
        let failure = failed(&*self.storage, "sync", &name, error);
        let salt = active.segment.salt;
        let start = if active.is_new { record::HEADER_BYTES } else { 0 };
        let _ = self.cut_back(active); // if that fails, they lie there twice, which is as good
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
                    let _ = self.cut_back(other); // nothing is promised any more
                    Err(failure.clone())
                }
            }
        });
        self.failures += 1;
        moved.map_err(|_| self.stop(failure))
    }

    /// Takes back what a failed write may have left.
    fn undo(&mut self, active: Active, error: &io::Error) -> JournalError {
        let failure = failed(&*self.storage, "write to", &active.segment.name(), error);
        match self.cut_back(active) {
            Ok(()) => failure,
            Err(_) => self.stop(failure),
        }
    }

    /// Leaves of a file what was good before the last write, and seals it.
    fn cut_back(&mut self, active: Active) -> io::Result<()> {
        let Active { segment, is_new, .. } = active;
        if is_new {
            let removed = self.storage.remove(&segment.name()).and_then(|()| self.storage.sync_dir());
            if removed.is_err() {
                self.sealed.push(segment); // what may be in it must not be forgotten
            }
            return removed;
        }
        let cut = self.storage.truncate(&segment.name(), segment.bytes);
        self.sealed.push(segment);
        cut
    }

    fn stop(&mut self, failure: JournalError) -> JournalError {
        self.stopped.insert(failure.stopping()).clone()
    }

    fn create(&mut self) -> Result<Active, JournalError> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1); // past the last, its name is taken, and so says the error
        let name = segment::name(number);
        let file = self.storage.create(&name).map_err(|error| failed(&*self.storage, "create", &name, &error))?;
        let [a, b, c, d, e, f, g, h, ..] = random();
        let segment = Segment::new(number, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        Ok(Active { segment, file, is_new: true, is_synced: false })
    }

    /// Nothing is appended to the active segment any more.
    pub(super) fn seal(&mut self) {
        if let Some(Active { segment, file, is_synced, .. }) = self.active.take() {
            self.sealed.push(segment);
            if !is_synced {
                self.unsynced.push(file);
            }
        }
    }

    /// Before anything is removed on its account: what was written outlasts a loss of power, whatever was asked for. The
    /// system has written most of it by then.
    pub(super) fn sync_all(&mut self, watermark: u64) -> Result<(), JournalError> {
        if self.active.is_none() || self.watermark < watermark {
            let mark = Draft { kind: Kind::Keys, sequence: None, entries: &[], latest: 0 };
            self.append(&[mark], watermark)?;
        }
        if self.has_unsynced_names {
            self.storage.sync_dir().map_err(|error| failed(&*self.storage, "sync", "", &error))?;
            self.has_unsynced_names = false;
        }
        // One that fails is not tried again: that would only seem to help.
        let synced = std::mem::take(&mut self.unsynced).into_iter().map(|mut file| file.sync());
        let sealed = synced.fold(Ok(()), io::Result::and);
        let active = match &mut self.active {
            Some(active) if !active.is_synced => active.file.sync(),
            _ => Ok(()),
        };
        if active.is_err() {
            // As above, but that nothing was promised that would have to be written again.
            self.active.take().into_iter().for_each(|active| self.sealed.push(active.segment));
        } else if let Some(active) = &mut self.active {
            active.is_synced = true;
        }
        sealed.and(active).map_err(|error| {
            self.rewriting = None; // what was written again may be in such a file
            failed(&*self.storage, "sync", "", &error)
        })
    }
}
