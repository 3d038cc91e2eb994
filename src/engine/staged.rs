//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, a line is asked for long before it is used.
//! While one group of a batch is decided, the next one's likely matches are on their way, and the buckets of the one after
//! that; so are the buckets of the dead keys that are removed next.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, IndexHash, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys in a group.
const GROUP: usize = 32;

/// Dead keys that a call removes on the side.
const RECLAIMED_PER_CALL: usize = 2;
/// Two full chunks.
const DOOMED_MAX: usize = 2 * CHUNK_KEYS as usize;

/// Dead keys whose buckets have been touched, and that are removed next: of two full chunks, or as many thin ones as hold
/// no more. They are the first of the wheel's dead.
pub(super) struct Doomed {
    keys: [(Place, u32); DOOMED_MAX],
    /// Keys before this are removed already.
    next: usize,
    len: usize,
    chunks: usize,
    /// The places are good while the index is at this generation.
    generation: u64,
}

/// What is known of a group before its turn.
#[derive(Clone, Copy)]
struct Ahead {
    hashes: [IndexHash; GROUP],
    places: [Place; GROUP],
    len: usize,
    /// The places are good while the index is at this generation.
    generation: u64,
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
        self.staged(entries, |shard, at, place, hash| {
            let (key, time) = entries[at];
            answer(at, shard.decide(place, hash, key, time.as_millis(), now)?);
            Ok(())
        })
    }

    /// Holds keys again that a journal has kept.
    pub(crate) fn restore_batch(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        self.staged(entries, |shard, at, place, hash| {
            let (key, time) = entries[at];
            shard.restore(place, hash, key, time.as_millis())
        })
    }

    #[inline(always)]
    fn staged(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        mut decide: impl FnMut(&mut Self, usize, Place, IndexHash) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut ring = [Ahead::EMPTY; 3];
        self.touch_buckets(entries, &mut ring[0]);
        self.touch_buckets(entries.get(GROUP..).unwrap_or_default(), &mut ring[1]);
        self.touch_chunks(&ring[0]);
        let mut start = 0;
        for turn in 0.. {
            let group = entries.len().saturating_sub(start).min(GROUP);
            if group == 0 {
                break;
            }
            self.touch_buckets(entries.get(start + 2 * GROUP..).unwrap_or_default(), &mut ring[(turn + 2) % 3]);
            self.touch_chunks(&ring[(turn + 1) % 3]);
            self.bury(DOOMED_MAX);
            self.doom();
            let this = &ring[turn % 3];
            for at in 0..group {
                let hash = this.hashes[at];
                let place =
                    if self.index.generation() == this.generation { this.places[at] } else { self.index.place(hash) };
                decide(self, start + at, place, hash)?;
            }
            start += group;
        }
        Ok(())
    }

    /// Works out where the keys of the first group of `entries` belong, and touches their buckets.
    #[inline(always)]
    fn touch_buckets(&self, entries: &[(Fingerprint, Timestamp)], ahead: &mut Ahead) {
        ahead.generation = self.index.generation();
        ahead.len = entries.len().min(GROUP);
        for ((key, _), (hash, place)) in entries.iter().zip(ahead.hashes.iter_mut().zip(&mut ahead.places)) {
            *hash = self.index.hash(*key);
            *place = self.index.place(*hash);
            self.index.prefetch(*place);
        }
    }

    /// Touches what a look into the keys' buckets says is needed next.
    #[inline(always)]
    fn touch_chunks(&self, ahead: &Ahead) {
        ahead.places[..ahead.len].iter().for_each(|place| self.index.prefetch_next(*place, &self.pool));
    }

    /// Does a call's share of reclaiming: removes two dead keys, whose buckets an earlier call has touched. No call makes
    /// more than one key or chunk, so the dead become fewer with every call.
    #[inline(always)]
    pub(super) fn reclaim_a_little(&mut self) {
        if self.wheel.has_dead() {
            self.bury(RECLAIMED_PER_CALL);
            self.doom();
        }
    }

    /// Reclaims up to two chunks' worth of dead keys; how many keys and chunks that were.
    pub(super) fn reclaim(&mut self) -> usize {
        self.doom();
        let cost = self.doomed.len - self.doomed.next + self.doomed.chunks;
        self.bury(DOOMED_MAX);
        cost
    }

    /// Chooses the dead keys to be removed next and touches their buckets, if those chosen before are gone.
    #[inline(always)]
    fn doom(&mut self) {
        if self.doomed.chunks == 0 && self.wheel.has_dead() {
            self.doom_next();
        }
    }

    fn doom_next(&mut self) {
        let Doomed { keys: places, next, len, chunks, generation } = &mut self.doomed;
        (*next, *len, *generation) = (0, 0, self.index.generation());
        let mut chunk = self.wheel.dead_head();
        while chunk != NONE && *len + usize::from(CHUNK_KEYS) <= DOOMED_MAX && *chunks < DOOMED_MAX {
            let header = *self.pool.header(chunk);
            if header.next != NONE {
                self.pool.prefetch_chunk(header.next);
            }
            let keys = self.pool.keys(chunk);
            for ((slot, key), doomed) in (slot_at(chunk, header.first)..).zip(keys).zip(&mut places[*len..]) {
                let place = self.index.place(self.index.hash(*key));
                self.index.prefetch(place);
                *doomed = (place, slot);
            }
            *len += keys.len();
            *chunks += 1;
            chunk = header.next;
        }
    }

    /// Removes up to `count` of the doomed keys from the index, and frees their chunks with the last.
    #[inline(always)]
    fn bury(&mut self, count: usize) {
        let end = self.doomed.len.min(self.doomed.next + count);
        let mut removed = 0;
        for (place, slot) in &self.doomed.keys[self.doomed.next..end] {
            let is_good = self.index.generation() == self.doomed.generation;
            let place = if is_good { *place } else { self.index.place(self.index.hash(self.pool.key(*slot))) };
            // One that `forget` has removed leaves a hole, and is not in the index.
            removed += usize::from(self.index.remove(place, *slot));
        }
        self.doomed.next = end;
        self.room += removed;
        self.counts.forgotten_on_time += removed as u64;
        if end == self.doomed.len {
            for _ in 0..std::mem::take(&mut self.doomed.chunks) {
                self.wheel.free_dead(&mut self.pool);
            }
        }
    }
}

impl Doomed {
    pub(super) const NONE: Self =
        Self { keys: [(Place::ZERO, 0); DOOMED_MAX], next: 0, len: 0, chunks: 0, generation: 0 };
}

impl Ahead {
    const EMPTY: Self = Self { hashes: [IndexHash::ZERO; GROUP], places: [Place::ZERO; GROUP], len: 0, generation: 0 };
}
