//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, lines are asked for first and used later.
//! For each group of a batch: look ahead to the next group (hash its keys and touch their buckets, choose dead keys and
//! touch theirs); touch the wheel chunk of each likely match of this group; decide; remove the dead keys.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, IndexHash, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys in a group.
const GROUP: usize = 32;

/// Two full chunks.
const DOOMED_MAX: usize = 2 * CHUNK_KEYS as usize;

/// Dead keys whose buckets have been touched, and that are removed next: of two full chunks, or as many thin ones as hold
/// no more.
struct Doomed {
    keys: [(Place, u32); DOOMED_MAX],
    len: usize,
    chunks: usize,
}

/// What is known of a group before its turn.
struct Ahead {
    hashes: [IndexHash; GROUP],
    places: [Place; GROUP],
    doomed: Doomed,
    /// The places are good while the index has as many buckets.
    buckets: usize,
}

impl Shard {
    /// Answers deliveries in order, as `insert` would one by one; stops at one that finds no room. Times are at most the
    /// ceiling already.
    pub(crate) fn insert_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        now: Option<u64>,
        mut answer: impl FnMut(usize, Verdict),
    ) -> Result<(), Full> {
        let mut buffers = (Ahead::new(), Ahead::new());
        let (mut this, mut next) = (&mut buffers.0, &mut buffers.1);
        let mut start = 0;
        self.look_ahead(entries, this);
        while start < entries.len() {
            let end = (start + GROUP).min(entries.len());
            self.bury(&this.doomed, this.buckets);
            self.look_ahead(&entries[end..], next);
            let group = &entries[start..end];
            for place in &this.places[..group.len()] {
                if let Some(slot) = self.index.candidate(*place) {
                    self.pool.prefetch_key(slot);
                }
            }
            for (offset, (key, time)) in group.iter().enumerate() {
                let hash = this.hashes[offset];
                let place =
                    if self.index.buckets() == this.buckets { this.places[offset] } else { self.index.place(hash) };
                answer(start + offset, self.decide(place, hash, *key, time.as_millis(), now)?);
            }
            (this, next, start) = (next, this, end);
        }
        Ok(())
    }

    /// Touches what the next group needs.
    #[inline(always)]
    fn look_ahead(&self, entries: &[(Fingerprint, Timestamp)], ahead: &mut Ahead) {
        ahead.buckets = self.index.buckets();
        // Where room is short, the group before may have to reclaim dead keys itself: then none are spoken for.
        (ahead.doomed.len, ahead.doomed.chunks) = (0, 0);
        if self.wheel.has_dead() && self.room >= GROUP && !entries.is_empty() {
            self.doom(&mut ahead.doomed);
        }
        for ((key, _), (hash, place)) in entries.iter().zip(ahead.hashes.iter_mut().zip(&mut ahead.places)) {
            *hash = self.index.hash(*key);
            *place = self.index.place(*hash);
            self.index.prefetch(*place);
        }
    }

    /// Reclaims up to two chunks' worth of dead keys; how many keys and chunks that were.
    pub(super) fn reclaim(&mut self) -> usize {
        let mut doomed = Doomed::new();
        self.doom(&mut doomed);
        self.bury(&doomed, self.index.buckets());
        doomed.len + doomed.chunks
    }

    /// Chooses the dead keys to be removed next and touches their buckets.
    fn doom(&self, doomed: &mut Doomed) {
        let mut chunk = self.wheel.dead_head();
        while chunk != NONE && doomed.len + usize::from(CHUNK_KEYS) <= DOOMED_MAX && doomed.chunks < DOOMED_MAX {
            let header = *self.pool.header(chunk);
            if header.next != NONE {
                self.pool.prefetch_chunk(header.next);
            }
            let keys = self.pool.keys(chunk);
            for ((slot, key), doomed) in (slot_at(chunk, header.first)..).zip(keys).zip(&mut doomed.keys[doomed.len..])
            {
                let place = self.index.place(self.index.hash(*key));
                self.index.prefetch(place);
                *doomed = (place, slot);
            }
            doomed.len += keys.len();
            doomed.chunks += 1;
            chunk = header.next;
        }
    }

    /// Removes the doomed keys from the index, which had that many `buckets` when they were chosen, and frees their chunks.
    fn bury(&mut self, doomed: &Doomed, buckets: usize) {
        let mut removed = 0;
        for (place, slot) in &doomed.keys[..doomed.len] {
            let has_grown = self.index.buckets() != buckets;
            let place = if has_grown { self.index.place(self.index.hash(self.pool.key(*slot))) } else { *place };
            // One that `forget` has removed leaves a hole, and is not in the index.
            removed += usize::from(self.index.remove(place, *slot));
        }
        self.room += removed;
        self.counts.forgotten_on_time += removed as u64;
        for _ in 0..doomed.chunks {
            self.wheel.free_dead(&mut self.pool);
        }
    }
}

impl Doomed {
    fn new() -> Self {
        Self { keys: [(Place::default(), 0); DOOMED_MAX], len: 0, chunks: 0 }
    }
}

impl Ahead {
    fn new() -> Self {
        let (hashes, places) = ([IndexHash::default(); GROUP], [Place::default(); GROUP]);
        Self { hashes, places, doomed: Doomed::new(), buckets: 0 }
    }
}
