//! Opening a journal: find the secret, fill the cache from the segments, quarantine what is
//! damaged.

use super::reading::{Found, Read, Source, check_secret, read_all, read_whole};
use super::record::{HEADER_BYTES, Header, HeaderError};
use super::segment::{self, Segment};
use super::{Cache, Damage, Durability, Error, ErrorKind, OpenOptions, Recovery, STEPS_PER_OPENING, Storage, Writer};
use crate::events;
use crate::key::{KeyHasher, random};

const SECRET: &str = "secret";
const SECRET_MAGIC: [u8; 8] = *b"oncewsec";
/// Of the file: the same twice over.
const SECRET_COPY_BYTES: usize = 32;

/// Opens the journal of a cache, which `make` makes with the secret, and fills the cache. `given`
/// is the secret of the configuration, `span` the horizon in milliseconds.
pub(crate) fn open<C: Cache>(
    storage: Box<dyn Storage>,
    given: Option<[u8; 16]>,
    span: u64,
    options: OpenOptions<'_>,
    make: impl FnOnce([u8; 16]) -> C,
) -> Result<(C, Writer, Recovery), Error> {
    let opening = Opening::start(storage, given)?;
    let mut cache = make(opening.secret);
    let (mut writer, recovery) = opening.restore(&mut cache, span, options)?;
    writer.maintain(&cache, cache.watermark(), STEPS_PER_OPENING);
    events::recovered(&recovery);
    Ok((cache, writer, recovery))
}

/// A journal whose secret is known and whose segments are not read yet.
struct Opening {
    storage: Box<dyn Storage>,
    secret: [u8; 16],
    /// Numbers and lengths, the newest first.
    files: Vec<(u64, u64)>,
    next_number: u64,
}

impl Opening {
    /// Finds the secret: the one that is stored, or for a new journal the one that is `given`, or a
    /// random one.
    fn start(storage: Box<dyn Storage>, given: Option<[u8; 16]>) -> Result<Self, Error> {
        let listed = storage.list().map_err(|error| storage.failure("list the directory", "", error))?;
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
            return Err(Error::new(ErrorKind::SecretMismatch, opening.storage.path(SECRET)));
        }
        opening.secret = match stored {
            Some(stored) if !opening.files.is_empty() => stored,
            // A secret without segments may come from an opening that failed, and may not be on the
            // disk: store it again.
            _ => opening.store_secret(stored.or(given), is_stored)?,
        };
        Ok(opening)
    }

    fn stored_secret(&self, is_stored: bool) -> Result<Option<[u8; 16]>, Error> {
        if !is_stored {
            return Ok(None);
        }
        let bytes = read_whole(&*self.storage, SECRET)?;
        let whole =
            |copy: &&[u8]| copy[..8] == SECRET_MAGIC && copy[24..28] == crc32c::crc32c(&copy[..24]).to_le_bytes();
        let copy = bytes.chunks_exact(SECRET_COPY_BYTES).find(whole);
        Ok(copy.map(|copy| std::array::from_fn(|byte| copy[8 + byte])))
    }

    /// Where there are segments already, a secret is stored only if they confirm it.
    fn store_secret(&self, given: Option<[u8; 16]>, is_there: bool) -> Result<[u8; 16], Error> {
        for (number, _) in &self.files {
            if let Ok(header) = self.header(*number)? {
                let given = given.ok_or_else(|| Error::new(ErrorKind::SecretMissing, self.storage.path(SECRET)))?;
                check_secret(&*self.storage, *number, &header, &KeyHasher::new(given))?;
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
        store().map_err(|error| self.storage.failure("store the secret", SECRET, error))?;
        Ok(secret)
    }

    fn header(&self, number: u64) -> Result<Result<Header, HeaderError>, Error> {
        let name = segment::name(number);
        let bytes = self.storage.read(&name, 0, HEADER_BYTES);
        Ok(Header::decode(&bytes.map_err(|error| self.storage.failure("read", &name, error))?))
    }

    /// Fills `cache` with the committed keys of which a copy may still come.
    fn restore(self, cache: &mut dyn Cache, span: u64, options: OpenOptions<'_>) -> Result<(Writer, Recovery), Error> {
        let (hasher, durability) = (KeyHasher::new(self.secret), options.durability);
        let source = Source { storage: &*self.storage, hasher, files: &self.files };
        let Read { mut recovery, watermark, sequence, segments, mut damage } = read_all(source, cache, options)?;
        let mut next_number = self.next_number;
        for damage in &mut damage {
            match self.quarantine_tail(damage, &mut next_number) {
                // It stays where it is, and does no harm there: nothing is appended to a segment
                // that was read.
                Err(error) if error.is_storage_full() => {}
                done => done?,
            }
        }
        // An empty file is no damage: a crash came between its creation and its first write.
        damage.retain(|damage| damage.public.bytes > 0);
        if durability == Durability::Power {
            // From now on the cache answers for what a killed process has written and not synced.
            let sync = |segment: &Segment| self.storage.sync(&segment.name());
            let synced = segments.iter().try_for_each(sync).and_then(|()| self.storage.sync_dir());
            synced.map_err(|error| self.storage.failure("sync", "", error))?;
        }
        recovery.damage = damage.into_iter().map(|damage| damage.public).collect();
        let writer = Writer::new(self.storage, durability, hasher, span, segments).resume(
            next_number,
            sequence.saturating_add(1),
            watermark,
        );
        Ok((writer, recovery))
    }

    /// Copies an unreadable tail of a segment to a file of its own, then cuts it off.
    fn quarantine_tail(&self, damage: &mut Found, next_number: &mut u64) -> Result<(), Error> {
        let Damage { offset, bytes, .. } = damage.public;
        if !damage.is_tail {
            return Ok(());
        }
        let name = segment::name(damage.number);
        let quarantine = segment::quarantined_name(damage.number, *next_number);
        let keep = || {
            if bytes > 0 {
                let tail = self.storage.read(&name, offset, usize::MAX)?;
                let mut kept = self.storage.create(&quarantine)?;
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
            let _ = self.storage.remove(&quarantine); // or attempts fill a full disk
            self.storage.failure("quarantine a damaged tail of", &name, error)
        })?;
        *next_number += 1;
        damage.public.quarantined_in = (bytes > 0).then(|| self.storage.path(&quarantine));
        Ok(())
    }
}
