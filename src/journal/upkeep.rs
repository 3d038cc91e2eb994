//! Keeping the journal small: segments whose time is over go, live keys that hold up others are written again.

use super::opening::failed;
use super::record::{
    ENTRY_BYTES, FRAME_BYTES_MAX, FRAME_ENTRIES_MAX, Frame, Frames, HEADER_BYTES, Item, Kind, encode_entry,
};
use super::writer::{Draft, MAINTENANCE_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Writer};
use super::{JournalError, segment};
use crate::Fingerprint;
use crate::engine::Held;
use std::io::ErrorKind;

/// Read of a segment that is rewritten in one step: some hundreds of microseconds, for its keys are looked up.
const STEP_BYTES: usize = 1 << 16;
/// Steps that `advance` and `observe` take.
pub(crate) const STEPS_PER_PROGRESS: u64 = 4;
/// Steps that an opening takes: as many small segments become one, where a cache is opened for a few keys at a time.
pub(crate) const STEPS_PER_OPENING: u64 = 16;
/// Segments that there may be besides those that are of full size: each is a file to be opened and read.
const SEGMENTS_MAX: u64 = 32;

const _: () = assert!(STEP_BYTES > FRAME_BYTES_MAX, "a step gets at least one frame further");

/// The cache, as the journal asks for it.
pub(crate) trait Keys {
    fn len(&self) -> usize;
    fn held(&self, key: Fingerprint) -> Held;
    /// No less than what any key was gone by that is not held any more.
    fn watermark(&self) -> u64;
}

impl Writer {
    /// Removes what is not needed any more, in up to `steps` steps of bounded work, or as many as what was appended since asks
    /// for. Whatever fails is tried again: it only keeps keys longer.
    pub(crate) fn maintain(&mut self, keys: &dyn Keys, watermark: u64, steps: u64) {
        let steps = steps.max(self.appended_bytes / MAINTENANCE_BYTES);
        self.appended_bytes = 0;
        let live_bytes = (keys.len() * ENTRY_BYTES) as u64;
        self.adapt_segments(live_bytes);
        let mut maintained = self.check().and_then(|()| self.drop_past(watermark));
        for _ in 0..steps {
            // Somewhat before the three times that are promised.
            let is_small = self.bytes() <= live_bytes / 4 * 11 + 2 * SEGMENT_BYTES_MIN;
            let are_few = self.sealed.len() as u64 <= SEGMENTS_MAX + 3 * (live_bytes / SEGMENT_BYTES_MAX);
            if maintained.is_err() || (is_small && are_few) {
                break;
            }
            maintained = self.rewrite_some(keys, watermark);
        }
        self.failures += u64::from(maintained.is_err());
        self.appended_bytes = 0; // its own do not make it due again
    }

    fn drop_past(&mut self, watermark: u64) -> Result<(), JournalError> {
        let span = self.span;
        let active = self.active.as_ref().map(|active| &active.segment);
        if active.is_some_and(|active| active.bytes >= SEGMENT_BYTES_MIN && active.is_past(span, watermark)) {
            self.seal();
        }
        let past: Vec<_> = self.sealed.iter().filter(|sealed| sealed.is_past(span, watermark)).cloned().collect();
        if past.is_empty() {
            return Ok(());
        }
        // The watermark that says so first: after a crash, nothing is missing that it does not account for. Where the disk is
        // too full even for that, one segment goes before it, since no copy of its keys is delivered any more; but not
        // the last one, which knows the watermark.
        if let Err(error) = self.sync_all(watermark) {
            let newest = self.segments().map(|segment| segment.number).max();
            let oldest = past[0].number;
            if !error.is_for_want_of_room() || newest == Some(oldest) {
                return Err(error);
            }
            self.remove(oldest)?;
            self.sync_all(watermark)?;
        }
        past.iter().try_for_each(|segment| self.remove(segment.number))
    }

    fn remove(&mut self, number: u64) -> Result<(), JournalError> {
        let name = segment::name(number);
        let gone = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => Ok(()), // what was wanted
            _ => Err(error),
        };
        let removed = self.storage.remove(&name).or_else(gone).and_then(|()| {
            self.storage.sync_dir()?;
            self.sealed.retain(|segment| segment.number != number);
            Ok(())
        });
        removed.map_err(|error| failed(&*self.storage, "remove", &name, &error))
    }

    /// Takes the oldest segment a step further: what is still held of it is appended. With the oldest first, one pass over
    /// all of them writes the live keys once and frees the rest.
    pub(super) fn rewrite_some(&mut self, keys: &dyn Keys, watermark: u64) -> Result<(), JournalError> {
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
                // It may be read another time; the others must not wait for that.
                segment.is_damaged = error.kind() == ErrorKind::NotFound;
                self.rewriting = Some((number.saturating_add(1), HEADER_BYTES as u64));
                return Err(failed(&*self.storage, "read", &name, &error));
            }
        };
        // Taken before any key is looked up: one that is forgotten after that is so under a greater one.
        let mut step = Step { sequence: self.next_sequence, ..Step::default() };
        self.next_sequence = self.next_sequence.saturating_add(1);
        let is_past = |time: u64| time.saturating_add(self.span) < watermark;
        for item in Frames::new(&bytes, 0, salt) {
            match item {
                Item::Frame(frame) => step.take(&frame, keys, is_past),
                Item::Damage { .. } => break, // the end of what was read, unless nothing came before it
            }
        }
        if step.read_bytes == 0 && length > 0 {
            segment.is_damaged = true;
            return Ok(());
        }
        // What was not held may be gone by a watermark that came meanwhile.
        let watermark = watermark.max(keys.watermark());
        // What follows in this segment is not covered by what comes before, as a rule.
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
    /// Held, and so true under a new sequence: frames of few keys become frames of many.
    held: Vec<u8>,
    /// As they were: kind, sequence, entries.
    others: Vec<(Kind, u64, Vec<u8>)>,
    latest: u64,
}

impl Step {
    fn take(&mut self, frame: &Frame<'_>, keys: &dyn Keys, is_past: impl Fn(u64) -> bool) {
        self.read_bytes += frame.bytes() as u64;
        let mut other = Vec::new();
        for (key, time) in frame.entries().filter(|(_, time)| !is_past(*time)) {
            let held = match frame.mark.kind {
                Kind::Keys => keys.held(key),
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

    /// Drops tombstones that are older than every key elsewhere, of which the least sequence is `first`, and so cover nothing;
    /// and of keys that were recorded more than once all but the latest time.
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
