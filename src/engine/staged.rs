//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, a group's lines are asked for first and
//! used later: hash all and touch the buckets; touch the wheel chunk of each likely match; decide.

use super::pool::{CHUNK_KEYS, slot_at};
use super::{Full, IndexHash, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys in a group.
pub(crate) const GROUP: usize = 32;

/// Dead keys whose buckets have been touched and that are removed next: at most two chunks' worth.
pub(super) struct Doomed {
    keys: [(IndexHash, u32); 2 * CHUNK_KEYS as usize],
    len: usize,
    chunks: usize,
}

impl Default for Doomed {
    fn default() -> Self {
        Self { keys: [(IndexHash::default(), 0); 2 * CHUNK_KEYS as usize], len: 0, chunks: 0 }
    }
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
        let mut doomed = Doomed::default();
        if self.wheel.has_dead() {
            self.doom(&mut doomed);
            self.doom(&mut doomed);
        }
        for hash in hashes {
            self.index.prefetch(*hash);
        }
        if doomed.chunks > 0 {
            self.bury(&mut doomed);
        }
        for hash in hashes {
            if let Some(slot) = self.index.candidate(*hash) {
                self.pool.prefetch_key(slot);
            }
        }
        for (at, ((key, time), hash)) in group.iter().zip(hashes).enumerate() {
            answer(at, self.decide(*hash, *key, time.as_millis(), now)?);
        }
        Ok(())
    }

    /// Adds the next dead chunk to the doomed, if there is one, and touches its keys' buckets.
    pub(super) fn doom(&mut self, doomed: &mut Doomed) {
        let Some(chunk) = self.wheel.peek_dead(&self.pool, doomed.chunks) else { return };
        let header = *self.pool.header(chunk);
        if header.next != super::pool::NONE {
            self.pool.prefetch_chunk(header.next);
        }
        for position in header.first..header.len {
            let slot = slot_at(chunk, position);
            let hash = self.index.hash(self.pool.key(slot));
            self.index.prefetch(hash);
            doomed.keys[doomed.len] = (hash, slot);
            doomed.len += 1;
        }
        doomed.chunks += 1;
    }

    /// Removes the doomed keys from the index and frees their chunks; `false` if there were none.
    pub(super) fn bury(&mut self, doomed: &mut Doomed) -> bool {
        let mut removed = 0;
        for (hash, slot) in &doomed.keys[..doomed.len] {
            // One that `forget` has removed leaves a hole, and is not in the index.
            removed += usize::from(self.index.remove(*hash, *slot));
        }
        self.room += removed;
        self.counts.forgotten_on_time += removed as u64;
        let any = doomed.chunks > 0;
        for _ in 0..doomed.chunks {
            self.wheel.free_dead(&mut self.pool);
        }
        (doomed.len, doomed.chunks) = (0, 0);
        any
    }
}
