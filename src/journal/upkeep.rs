//! Keeps the journal small: expired segments are removed, and live keys that hold up a segment are
//! rewritten.

use super::record::{
    ENTRY_BYTES, FRAME_BYTES_MAX, FRAME_ENTRIES_MAX, Frame, Frames, HEADER_BYTES, Item, Kind, encode_entry,
};
use super::writer::{Draft, MAINTENANCE_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Writer};
use super::{Cache, Error, segment};
use crate::engine::Held;
use std::io::ErrorKind;

/// Bytes of a segment that one step rewrites: some hundreds of microseconds, as its keys are looked
/// up.
const STEP_BYTES: usize = 1 << 16;
/// Steps that `advance` and `observe` take.
pub(crate) const STEPS_PER_PROGRESS: u64 = 4;
/// Steps that an opening takes: as many small segments become one, where a cache is opened for a
/// few keys at a time.
pub(crate) const STEPS_PER_OPENING: u64 = 16;
/// Segments allowed besides those of full size: each is a file to be opened and read.
const SEGMENTS_MAX: u64 = 32;

const _: () = assert!(STEP_BYTES > FRAME_BYTES_MAX, "a step gets at least one frame further");

impl Writer {
    /// Removes what is not needed any more, in up to `steps` steps of bounded work, or as many more
    /// as the bytes appended since make necessary. What fails is tried again: it only keeps keys
    /// longer.
    pub(crate) fn maintain(&mut self, cache: &dyn Cache, watermark: u64, steps: u64) {
        let steps = steps.max(self.appended_bytes / MAINTENANCE_BYTES);
        self.appended_bytes = 0;
        let live_bytes = (cache.len() * ENTRY_BYTES) as u64;
        self.adapt_segments(live_bytes);
        let mut maintained = self.check().and_then(|()| self.drop_past(watermark));
        for _ in 0..steps {
            // Somewhat before the promised three times.
            let is_small = self.bytes() <= live_bytes / 4 * 11 + 2 * SEGMENT_BYTES_MIN;
            let are_few = self.sealed.len() as u64 <= SEGMENTS_MAX + 3 * (live_bytes / SEGMENT_BYTES_MAX);
            if maintained.is_err() || (is_small && are_few) {
                break;
            }
            maintained = self.rewrite_some(cache, watermark);
        }
        self.failures += u64::from(maintained.is_err());
        self.appended_bytes = 0; // the bytes of maintenance do not make it due again
    }

    fn drop_past(&mut self, watermark: u64) -> Result<(), Error> {
        let span = self.span;
        let active = self.active.as_ref().map(|active| &active.segment);
        if active.is_some_and(|active| active.bytes >= SEGMENT_BYTES_MIN && active.is_past(span, watermark)) {
            self.seal();
        }
        let past: Vec<_> = self.sealed.iter().filter(|sealed| sealed.is_past(span, watermark)).cloned().collect();
        if past.is_empty() {
            return Ok(());
        }
        // The watermark that expired them is synced first: after a crash, nothing is missing that
        // it does not account for. Where the disk is too full even for that, one segment is removed
        // before it, since no copy of its keys is delivered any more; but not the newest one, which
        // holds the watermark.
        if let Err(error) = self.sync_all(watermark) {
            let newest = self.segments().map(|segment| segment.number).max();
            let oldest = past[0].number;
            if !error.is_storage_full() || newest == Some(oldest) {
                return Err(error);
            }
            self.remove(oldest)?;
            self.sync_all(watermark)?;
        }
        past.iter().try_for_each(|segment| self.remove(segment.number))
    }

    fn remove(&mut self, number: u64) -> Result<(), Error> {
        let name = segment::name(number);
        let gone = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => Ok(()), // it is gone already
            _ => Err(error),
        };
        let removed = self.storage.remove(&name).or_else(gone).and_then(|()| {
            self.storage.sync_dir()?;
            self.sealed.retain(|segment| segment.number != number);
            Ok(())
        });
        removed.map_err(|error| self.storage.failure("remove", &name, error))
    }

    /// Rewrites the oldest segment a step further: its keys that are still held are appended. With
    /// the oldest first, one pass over all of them writes the live keys once and frees the rest.
    pub(super) fn rewrite_some(&mut self, cache: &dyn Cache, watermark: u64) -> Result<(), Error> {
        let (number, offset) = self.rewriting.take().unwrap_or((0, HEADER_BYTES as u64));
        let mut sealed = self.sealed.iter_mut().filter(|segment| !segment.is_damaged && segment.number >= number);
        let Some(segment) = sealed.next() else {
            self.seal();
            return Ok(());
        };
        let offset = if segment.number == number { offset } else { HEADER_BYTES as u64 };
        let (number, salt, end, is_in_order) = (segment.number, segment.salt, segment.bytes, segment.is_in_order);
        let length = STEP_BYTES.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(STEP_BYTES));
        let name = segment::name(number);
        let bytes = match self.storage.read(&name, offset, length) {
            Ok(bytes) => bytes,
            Err(error) => {
                // It may be readable later; the others must not wait for it.
                segment.is_damaged = error.kind() == ErrorKind::NotFound;
                self.rewriting = Some((number.saturating_add(1), HEADER_BYTES as u64));
                return Err(self.storage.failure("read", &name, error));
            }
        };
        // Taken before any key is looked up: a later removal of a key has a greater sequence.
        let mut step = Step { sequence: self.next_sequence, ..Step::default() };
        self.next_sequence = self.next_sequence.saturating_add(1);
        let is_past = |time: u64| time.saturating_add(self.span) < watermark;
        for item in Frames::new(&bytes, 0, salt) {
            match item {
                Item::Frame(frame) => step.take(&frame, cache, is_past),
                Item::Damage { .. } => break, // the end of what was read, unless nothing came before it
            }
        }
        if step.read_bytes == 0 && length > 0 {
            segment.is_damaged = true;
            return Ok(());
        }
        // A key that was not held may have expired by a watermark that came meanwhile.
        let watermark = watermark.max(cache.watermark());
        // Usually, no tombstone in this segment covers a key that follows it.
        let others = self.segments().filter(|segment| segment.number != number || !is_in_order);
        step.tidy(others.map(|segment| segment.first).fold(u64::MAX, u64::min));
        if !step.is_empty() {
            self.append(&step.drafts(), watermark)?;
        }
        let offset = offset + step.read_bytes;
        if offset < end {
            self.rewriting = Some((number, offset));
            return Ok(());
        }
        self.sync_all(watermark)?;
        self.remove(number)
    }

    fn adapt_segments(&mut self, live_bytes: u64) {
        self.segment_bytes_max = (live_bytes / 4).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    }
}

/// What is to be kept of a piece of a segment.
#[derive(Default)]
struct Step {
    sequence: u64,
    read_bytes: u64,
    /// Keys that are held, and so true under a new sequence: small frames become large ones.
    held: Vec<u8>,
    /// Pending keys and tombstones as they were: kind, sequence, entries.
    others: Vec<(Kind, u64, Vec<u8>)>,
    latest: u64,
}

impl Step {
    fn take(&mut self, frame: &Frame<'_>, cache: &dyn Cache, is_past: impl Fn(u64) -> bool) {
        self.read_bytes += frame.bytes() as u64;
        let mut other = Vec::new();
        for (key, time) in frame.entries().filter(|(_, time)| !is_past(*time)) {
            let held = match frame.mark.kind {
                Kind::Keys => cache.held(key),
                Kind::Removed => Held::Pending,
            };
            match held {
                Held::No => continue,
                Held::Yes => encode_entry((key, time), &mut self.held),
                Held::Pending => encode_entry((key, time), &mut other),
            }
            self.latest = self.latest.max(time);
        }
        if !other.is_empty() {
            self.others.push((frame.mark.kind, frame.mark.sequence, other));
        }
    }

    /// Drops tombstones that cover nothing, as they are older than every key elsewhere, of which
    /// the least sequence is `first`. Of a key that was appended more than once, keeps the latest
    /// time.
    fn tidy(&mut self, first: u64) {
        let kept = self.others.iter().filter(|(kind, ..)| *kind == Kind::Keys);
        let first = kept.map(|(_, sequence, _)| *sequence).fold(first, u64::min);
        self.others.retain(|(kind, sequence, _)| *kind == Kind::Keys || first < *sequence);
        let (entries, _) = self.held.as_chunks::<ENTRY_BYTES>();
        let mut entries = entries.to_vec();
        let time = |entry: &[u8; ENTRY_BYTES]| u64::from_le_bytes(entry[16..].try_into().unwrap_or_default());
        entries.sort_unstable_by(|one, other| one[..16].cmp(&other[..16]).then(time(other).cmp(&time(one))));
        entries.dedup_by(|one, other| one[..16] == other[..16]);
        self.held = entries.concat();
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.others.is_empty()
    }

    fn drafts(&self) -> Vec<Draft<'_>> {
        let latest = self.latest;
        let held = self.held.chunks(FRAME_ENTRIES_MAX * ENTRY_BYTES);
        let held = held.map(|entries| Draft { kind: Kind::Keys, sequence: Some(self.sequence), entries, latest });
        let others = self.others.iter();
        let others =
            others.map(|(kind, sequence, entries)| Draft { kind: *kind, sequence: Some(*sequence), entries, latest });
        held.chain(others).collect()
    }
}
