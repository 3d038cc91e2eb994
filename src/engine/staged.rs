//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, a group's lines are asked for first and
//! used later: hash all and touch the buckets; touch the wheel chunk of each likely match; decide.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, IndexHash, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys in a group.
pub(crate) const GROUP: usize = 32;

const DOOMED_MAX: usize = 2 * CHUNK_KEYS as usize;

/// Dead keys whose buckets have been touched, and that are removed next. At most two full chunks, or as many thin ones
/// as hold no more keys.
struct Doomed {
    keys: [(Place, u32); DOOMED_MAX],
    len: usize,
    chunks: usize,
}

impl Shard {
    /// Answers a group of at most `GROUP` deliveries in order, each with its hash; stops at one that finds no room.
    /// Times are at most the ceiling already.
    pub(crate) fn insert_group(
        &mut self,
        group: &[(Fingerprint, Timestamp)],
        hashes: &[IndexHash],
        now: Option<u64>,
        mut answer: impl FnMut(usize, Verdict),
    ) -> Result<(), Full> {
        let doomed = self.wheel.has_dead().then(|| self.doom());
        let mut places = [Place::default(); GROUP];
        for (place, hash) in places.iter_mut().zip(hashes) {
            *place = self.index.place(*hash);
            self.index.prefetch(*place);
        }
        if let Some(doomed) = doomed {
            self.bury(&doomed);
        }
        for place in &places[..hashes.len()] {
            if let Some(slot) = self.index.candidate(*place) {
                self.pool.prefetch_key(slot);
            }
        }
        let buckets = self.index.buckets();
        for (at, (((key, time), hash), place)) in group.iter().zip(hashes).zip(places).enumerate() {
            let has_grown = self.index.buckets() != buckets;
            let place = if has_grown { self.index.place(*hash) } else { place };
            answer(at, self.decide(place, *hash, *key, time.as_millis(), now)?);
        }
        Ok(())
    }

    /// Reclaims up to two chunks' worth of dead keys; how many keys and chunks that were.
    pub(super) fn reclaim(&mut self) -> usize {
        let doomed = self.doom();
        self.bury(&doomed);
        doomed.len + doomed.chunks
    }

    /// Chooses the dead keys to be removed next and touches their buckets.
    fn doom(&self) -> Doomed {
        let mut doomed = Doomed { keys: [(Place::default(), 0); DOOMED_MAX], len: 0, chunks: 0 };
        let mut chunk = self.wheel.dead_head();
        while chunk != NONE && doomed.len + usize::from(CHUNK_KEYS) <= DOOMED_MAX && doomed.chunks < DOOMED_MAX {
            let header = *self.pool.header(chunk);
            if header.next != NONE {
                self.pool.prefetch_chunk(header.next);
            }
            for position in header.first..header.len {
                let slot = slot_at(chunk, position);
                let place = self.index.place(self.index.hash(self.pool.key(slot)));
                self.index.prefetch(place);
                doomed.keys[doomed.len] = (place, slot);
                doomed.len += 1;
            }
            doomed.chunks += 1;
            chunk = header.next;
        }
        doomed
    }

    /// Removes the doomed keys from the index and frees their chunks.
    fn bury(&mut self, doomed: &Doomed) {
        let mut removed = 0;
        for (place, slot) in &doomed.keys[..doomed.len] {
            // One that `forget` has removed leaves a hole, and is not in the index.
            removed += usize::from(self.index.remove(*place, *slot));
        }
        self.room += removed;
        self.counts.forgotten_on_time += removed as u64;
        for _ in 0..doomed.chunks {
            self.wheel.free_dead(&mut self.pool);
        }
    }
}
