//! Reading a journal: the secret, then every segment.
//!
//! Entries commute, so their order does not matter, unless keys make room for others. The newest segment comes first, since it
//! knows the latest watermark, which spares the cache what older ones hold of keys whose time is over.

use super::record::{Frame, Frames, HEADER_BYTES, Header, HeaderError, Item, Kind};
use super::segment::{self, Segment};
use super::{
    Damage, Durability, JournalError, OpenMode, OpenOptions, OpenProgress, Problem, Recovery, Storage, Writer,
};
use crate::engine::Full;
use crate::fingerprint::{Secret, random};
use crate::{Error, Fingerprint, Timestamp};
use std::collections::HashMap;
use std::io;

const SECRET: &str = "secret";
const SECRET_MAGIC: [u8; 8] = *b"oncewsec";
/// Of the file: the same twice over.
const SECRET_COPY_BYTES: usize = 32;
/// Keys that are handed to the cache at once.
const KEYS_AT_ONCE: usize = 8192;

/// The cache that is being filled.
pub(crate) trait Restore {
    /// The watermark was here at least.
    fn advance(&mut self, watermark: u64);
    /// Holds keys again, but those whose time is over.
    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full>;
    fn remove(&mut self, key: Fingerprint);
    fn len(&self) -> usize;
    /// Whether a key may be forgotten for another.
    fn evicts(&self) -> bool;
}

/// A journal whose secret is known and whose segments are not read yet.
pub(crate) struct Opening {
    storage: Box<dyn Storage>,
    secret: [u8; 16],
    /// Numbers and lengths, the newest first.
    files: Vec<(u64, u64)>,
    next_number: u64,
}

impl Opening {
    /// Finds the secret: the one that is stored, or for a new journal the one that is `given`, or a random one.
    pub(crate) fn start(storage: Box<dyn Storage>, given: Option<[u8; 16]>) -> Result<Self, JournalError> {
        let listed = storage.list().map_err(|error| failed(&*storage, "list the directory", "", &error))?;
        let used = listed.iter().filter_map(|(name, _)| segment::used_number(name)).max();
        let next_number = used.map_or(0, |used| used.saturating_add(1));
        let mut files: Vec<_> =
            listed.iter().filter_map(|(name, bytes)| Some((segment::number(name)?, *bytes))).collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        let mut opening = Self { storage, secret: [0; 16], files, next_number };
        let is_stored = listed.iter().any(|(name, _)| name == SECRET);
        let stored = opening.stored_secret(is_stored)?;
        if let (Some(stored), Some(given)) = (stored, given)
            && stored != given
        {
            return Err(JournalError::new(Problem::OtherSecret, opening.storage.path(SECRET)));
        }
        opening.secret = match stored {
            Some(stored) if !opening.files.is_empty() => stored,
            // One that no segment stands on may come from an opening that failed, and not be on the disk: once more.
            _ => opening.store_secret(stored.or(given), is_stored)?,
        };
        Ok(opening)
    }

    /// Whoever fills a cache makes it with this.
    pub(crate) fn secret(&self) -> [u8; 16] {
        self.secret
    }

    fn stored_secret(&self, is_stored: bool) -> Result<Option<[u8; 16]>, JournalError> {
        if !is_stored {
            return Ok(None);
        }
        let bytes = self.read(SECRET)?;
        let whole =
            |copy: &&[u8]| copy[..8] == SECRET_MAGIC && copy[24..28] == crc32c::crc32c(&copy[..24]).to_le_bytes();
        let copy = bytes.chunks_exact(SECRET_COPY_BYTES).find(whole);
        Ok(copy.map(|copy| std::array::from_fn(|byte| copy[8 + byte])))
    }

    /// Where segments are there already, only a secret that they confirm is stored.
    fn store_secret(&self, given: Option<[u8; 16]>, is_there: bool) -> Result<[u8; 16], JournalError> {
        for (number, _) in &self.files {
            if let Ok(header) = self.header(*number)? {
                let given = given.ok_or_else(|| JournalError::new(Problem::NoSecret, self.storage.path(SECRET)))?;
                self.check(*number, &header, given)?;
            }
        }
        let secret = given.unwrap_or_else(random);
        let mut copy = Vec::with_capacity(2 * SECRET_COPY_BYTES);
        copy.extend_from_slice(&SECRET_MAGIC);
        copy.extend_from_slice(&secret);
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.resize(SECRET_COPY_BYTES, 0);
        copy.extend_from_within(..);
        let store = || {
            if is_there {
                self.storage.remove(SECRET)?;
            }
            let mut file = self.storage.create(SECRET)?;
            file.append(&copy)?;
            file.sync()?;
            self.storage.sync_dir()
        };
        store().map_err(|error| failed(&*self.storage, "store the secret", SECRET, &error))?;
        Ok(secret)
    }

    fn check(&self, number: u64, header: &Header, secret: [u8; 16]) -> Result<(), JournalError> {
        if header.secret_check == Secret::new(Some(secret)).check(header.salt) {
            return Ok(());
        }
        Err(JournalError::new(Problem::OtherSecret, self.storage.path(&segment::name(number))))
    }

    fn header(&self, number: u64) -> Result<Result<Header, HeaderError>, JournalError> {
        let name = segment::name(number);
        let bytes = self.storage.read(&name, 0, HEADER_BYTES);
        Ok(Header::decode(&bytes.map_err(|error| failed(&*self.storage, "read", &name, &error))?))
    }

    /// A file as a whole: a segment is some tens of megabytes, or what one batch took.
    fn read(&self, name: &str) -> Result<Vec<u8>, JournalError> {
        self.storage.read(name, 0, usize::MAX).map_err(|error| failed(&*self.storage, "read", name, &error))
    }

    /// Fills `cache` with what was committed and may still be asked for. `span` is the horizon in milliseconds.
    pub(crate) fn restore(
        self,
        cache: &mut dyn Restore,
        durability: Durability,
        span: u64,
        options: OpenOptions<'_>,
    ) -> Result<(Writer, Recovery), Error> {
        let Read { mut recovery, watermark, sequence, segments, mut damage } = self.read_all(cache, options)?;
        let mut next_number = self.next_number;
        for damage in &mut damage {
            match self.set_aside(damage, &mut next_number) {
                // It stays where it is, and does no harm there: nothing is appended to a segment that was read.
                Err(error) if error.is_for_want_of_room() => {}
                done => done?,
            }
        }
        // What is left of an end is nothing: a crash came between the making of a file and its first write.
        damage.retain(|damage| damage.public.bytes > 0);
        if durability == Durability::Power {
            // What a killed process has written and not synced is answered for from now on.
            let sync = |segment: &Segment| self.storage.sync(&segment.name());
            let synced = segments.iter().try_for_each(sync).and_then(|()| self.storage.sync_dir());
            synced.map_err(|error| failed(&*self.storage, "sync", "", &error))?;
        }
        recovery.damage = damage.into_iter().map(|damage| damage.public).collect();
        let writer = Writer::new(self.storage, durability, Secret::new(Some(self.secret)), span, segments).go_on(
            next_number,
            sequence.saturating_add(1),
            watermark,
        );
        Ok((writer, recovery))
    }

    fn read_all(&self, cache: &mut dyn Restore, options: OpenOptions<'_>) -> Result<Read, Error> {
        let bytes_in_all = self.files.iter().map(|(_, bytes)| bytes).sum();
        let mut reading = Reading {
            opening: self,
            cache,
            options,
            progress: OpenProgress { bytes_read: 0, bytes_in_all, keys_read: 0 },
            entries: Vec::with_capacity(KEYS_AT_ONCE),
            watermark: 0,
            sequence: 0,
            forgotten: HashMap::new(),
            segments: Vec::new(),
            damage: Vec::new(),
        };
        if reading.cache.evicts() {
            // In the order in which they came, or the newest keys make room for older ones. What is to be known before any
            // key is read is in later segments.
            reading.read_all_marks()?;
            self.files.iter().rev().try_for_each(|(number, _)| reading.read_segment(*number))?;
        } else {
            let mut read = self.files.iter().try_for_each(|(number, _)| reading.read_segment(*number));
            if read == Err(Error::Full) {
                // A key in a later segment than its own tombstone may have taken up the room of another.
                reading.start_again()?;
                read = self.files.iter().try_for_each(|(number, _)| reading.read_segment(*number));
            }
            read?;
            reading.segments.reverse();
        }
        reading.forget_again()?;
        reading.report();
        Ok(Read {
            recovery: Recovery {
                segments: self.files.len(),
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

    /// Cuts unreadable bytes off a segment's end, once they are kept in a file of their own.
    fn set_aside(&self, damage: &mut Found, next_number: &mut u64) -> Result<(), JournalError> {
        let Damage { offset, bytes, .. } = damage.public;
        if !damage.is_tail {
            return Ok(());
        }
        let name = segment::name(damage.number);
        let kept_in = segment::quarantined_name(damage.number, *next_number);
        let keep = || {
            if bytes > 0 {
                let tail = self.storage.read(&name, offset, usize::MAX)?;
                let mut kept = self.storage.create(&kept_in)?;
                kept.append(&tail)?;
                kept.sync()?;
                self.storage.sync_dir()?;
            }
            if offset > 0 {
                return self.storage.truncate(&name, offset);
            }
            self.storage.remove(&name)?;
            self.storage.sync_dir()
        };
        keep().map_err(|error| {
            let _ = self.storage.remove(&kept_in); // or a full disk is filled with attempts
            failed(&*self.storage, "set a damaged end aside from", &name, &error)
        })?;
        *next_number += 1;
        damage.public.kept_in = (bytes > 0).then(|| self.storage.path(&kept_in));
        Ok(())
    }
}

/// Damage, and what is to be done about it.
struct Found {
    public: Damage,
    number: u64,
    is_tail: bool,
}

/// What was read.
struct Read {
    recovery: Recovery,
    watermark: u64,
    sequence: u64,
    /// By number.
    segments: Vec<Segment>,
    damage: Vec<Found>,
}

struct Reading<'a> {
    opening: &'a Opening,
    cache: &'a mut dyn Restore,
    options: OpenOptions<'a>,
    progress: OpenProgress,
    /// Not yet handed to the cache.
    entries: Vec<(Fingerprint, Timestamp)>,
    watermark: u64,
    /// The greatest.
    sequence: u64,
    /// By the sequence of the last frame that says so; and whether a later one has the key again.
    forgotten: HashMap<Fingerprint, (u64, bool)>,
    segments: Vec<Segment>,
    damage: Vec<Found>,
}

impl Reading<'_> {
    fn read_segment(&mut self, number: u64) -> Result<(), Error> {
        let name = segment::name(number);
        let bytes = self.opening.read(&name)?;
        let header = match Header::decode(&bytes) {
            Ok(header) => header,
            Err(HeaderError::Damaged) => {
                self.progress.bytes_read += bytes.len() as u64;
                // Empty ones included: a crash came between the making of a file and its first write.
                return Ok(self.note_damage(number, 0, bytes.len(), true)?);
            }
            Err(HeaderError::Version(version)) => {
                let (path, detail) = (self.opening.storage.path(&name), format!("format {version}"));
                return Err(JournalError::with_detail(Problem::LaterVersion, path, detail).into());
            }
        };
        self.opening.check(number, &header, self.opening.secret)?;
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

    fn read_all_marks(&mut self) -> Result<(), JournalError> {
        for (number, _) in &self.opening.files {
            let bytes = self.opening.read(&segment::name(*number))?;
            if let Ok(header) = Header::decode(&bytes) {
                self.read_marks(&bytes, header.salt);
            }
        }
        Ok(())
    }

    /// With all marks known and nothing held that one of them forgets. What was committed again after that is read again.
    fn start_again(&mut self) -> Result<(), JournalError> {
        self.read_all_marks()?;
        self.forgotten.keys().for_each(|key| self.cache.remove(*key));
        self.entries.clear();
        self.segments.clear();
        self.damage.clear();
        (self.progress.bytes_read, self.progress.keys_read) = (0, 0);
        Ok(())
    }

    /// All but the keys: what is known before they are restored need not be undone, and takes up no room meanwhile.
    fn read_marks(&mut self, bytes: &[u8], salt: u64) {
        for frame in frames(bytes, salt) {
            self.sequence = self.sequence.max(frame.mark.sequence);
            self.watermark = self.watermark.max(frame.mark.watermark);
            if frame.mark.kind == Kind::Removed {
                for (key, _) in frame.entries() {
                    let (sequence, _) = self.forgotten.entry(key).or_default();
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
            !self.forgotten.is_empty()
                && self.forgotten.get(key).is_some_and(|(sequence, _)| frame.mark.sequence < *sequence)
        };
        let keys = frame.entries().filter(|(key, _)| !is_gone(key));
        self.entries.extend(keys.map(|(key, time)| (key, Timestamp::from_millis(time))));
        self.progress.keys_read += frame.entries().len() as u64;
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        self.cache.restore(&self.entries)?;
        self.entries.clear();
        Ok(())
    }

    /// Removes what was removed on purpose, unless it was committed again after that: a rewritten frame may be older than
    /// the segment that it is in. Seldom there is any, so that this is a second pass rather than a burden on the first.
    fn forget_again(&mut self) -> Result<(), JournalError> {
        if self.forgotten.is_empty() {
            return Ok(());
        }
        for at in 0..self.segments.len() {
            let bytes = self.opening.read(&self.segments[at].name())?;
            let is_keys = |frame: &Frame<'_>| frame.mark.kind == Kind::Keys;
            for frame in frames(&bytes, self.segments[at].salt).filter(is_keys) {
                for (key, _) in frame.entries() {
                    if let Some((sequence, is_back)) = self.forgotten.get_mut(&key) {
                        *is_back |= frame.mark.sequence > *sequence;
                    }
                }
            }
        }
        let gone = self.forgotten.iter().filter(|(_, (_, is_back))| !is_back);
        gone.for_each(|(key, _)| self.cache.remove(*key));
        Ok(())
    }

    fn note_damage(&mut self, number: u64, offset: usize, bytes: usize, is_tail: bool) -> Result<(), JournalError> {
        let path = self.opening.storage.path(&segment::name(number));
        if bytes > 0 && self.options.mode == OpenMode::Strict {
            let detail = format!("{bytes} unreadable bytes at {offset}");
            return Err(JournalError::with_detail(Problem::Damaged, path, detail));
        }
        let public = Damage { path, offset: offset as u64, bytes: bytes as u64, kept_in: None };
        self.damage.push(Found { public, number, is_tail });
        Ok(())
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

pub(super) fn failed(storage: &dyn Storage, doing: &str, name: &str, error: &io::Error) -> JournalError {
    JournalError::io(doing, storage.path(name), error)
}
