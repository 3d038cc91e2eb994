//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, a line is asked for long before it is used.
//! While one group of a batch is decided, the next one's buckets and likely matches are on their way; so are the buckets of
//! the dead keys that are removed next.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys whose lines are asked for together.
const GROUP: usize = 64;
/// Keys of a group between which dead keys are removed.
const BLOCK: usize = 16;

/// Dead keys that a call removes on the side for each key that it may add.
pub(super) const RECLAIMED_PER_KEY: usize = 2;
/// Dead keys whose buckets are on their way at a time, at most: two chunks.
const DOOMED_MAX: usize = 64;

/// Dead keys whose buckets have been touched, and that are removed next: all of some chunks, the first of the wheel's dead.
pub(super) struct Doomed {
    /// A ring, from `first` on.
    places: [Place; DOOMED_MAX],
    first: usize,
    len: usize,
    /// The first one's slot number, and how many of its chunk there are; the others' slot numbers follow on it.
    slot: u32,
    left: usize,
    /// The chunk of the last; `NONE` if there are none.
    last_chunk: u32,
    /// The places are good while the index is at this generation.
    generation: u64,
}

/// Where a group's keys belong, before its turn.
#[derive(Clone, Copy)]
struct Ahead {
    places: [Place; GROUP],
    len: usize,
    /// The places are good while the index is at this generation.
    generation: u64,
}

impl Shard {
    /// Decides on deliveries in order, as `insert` would one by one; stops at one that finds no room. Returns how many it has
    /// decided, and tells `answer` of those that are not fresh. Times are at most the ceiling already.
    pub(crate) fn insert_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        now: Option<u64>,
        mut answer: impl FnMut(usize, Verdict),
    ) -> usize {
        self.staged(entries, |shard, at, place, key, time| {
            if !shard.record_plain(place, key, time) {
                match shard.decide_unusual(place, key, time, now)? {
                    Verdict::Fresh => {}
                    verdict => answer(at, verdict),
                }
            }
            Ok(())
        })
    }

    /// Holds keys again that a journal has kept.
    pub(crate) fn restore_batch(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        let restored = self.staged(entries, |shard, _, place, key, time| shard.restore(place, *key, time));
        if restored < entries.len() { Err(Full) } else { Ok(()) }
    }

    #[inline(always)]
    fn staged(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        mut decide: impl FnMut(&mut Self, usize, Place, &Fingerprint, u64) -> Result<(), Full>,
    ) -> usize {
        let (mut this, mut next) = (&mut Ahead::new(), &mut Ahead::new());
        let mut groups = entries.chunks(GROUP);
        let mut group = groups.next().unwrap_or_default();
        self.touch_buckets(group, this);
        self.touch_chunks(this);
        let mut at = 0;
        while !group.is_empty() {
            let following = groups.next().unwrap_or_default();
            self.touch_buckets(following, next);
            for (entries, places) in group.chunks(BLOCK).zip(this.places.chunks(BLOCK)) {
                self.reclaim_a_little(RECLAIMED_PER_KEY * BLOCK);
                for ((key, time), place) in entries.iter().zip(places) {
                    let is_good = self.index.generation() == this.generation;
                    let place = if is_good { *place } else { self.index.place(place.hash()) };
                    if decide(self, at, place, key, time.as_millis()).is_err() {
                        return at;
                    }
                    at += 1;
                }
            }
            self.touch_chunks(next);
            std::mem::swap(&mut this, &mut next);
            group = following;
        }
        at
    }

    /// Works out where the keys of a group belong, and touches their buckets.
    #[inline(always)]
    fn touch_buckets(&self, entries: &[(Fingerprint, Timestamp)], ahead: &mut Ahead) {
        ahead.generation = self.index.generation();
        ahead.len = entries.len();
        for ((key, _), place) in entries.iter().zip(&mut ahead.places) {
            *place = self.index.touch(self.index.hash(*key));
        }
    }

    /// Touches what a look into the keys' buckets says is needed next.
    #[inline(always)]
    fn touch_chunks(&self, ahead: &Ahead) {
        // First all looks, then all touches: they are few, and wait less on each other than on the looks between them.
        let (mut wanting, mut count) = ([Place::ZERO; GROUP], 0);
        for place in &ahead.places[..ahead.len] {
            if self.index.wants_more(*place) {
                wanting[count % GROUP] = *place;
                count += 1;
            }
        }
        wanting.iter().take(count).for_each(|place| self.index.prefetch_next(*place, &self.pool));
    }

    /// Does a call's share of reclaiming: removes dead keys whose buckets an earlier call has touched, two for each key that
    /// it may add. No call makes more than one key or chunk of each, so the dead become fewer with every call.
    #[inline(always)]
    pub(super) fn reclaim_a_little(&mut self, count: usize) {
        if self.wheel.has_dead() {
            self.bury(count);
            self.doom();
        }
    }

    /// Reclaims up to a chunk's worth of dead keys; how many keys and chunks that were.
    pub(super) fn reclaim(&mut self) -> usize {
        self.doom();
        self.bury(usize::from(CHUNK_KEYS))
    }

    /// Chooses the dead keys to be removed next and touches their buckets, where there is room for a whole chunk of them.
    #[inline(always)]
    fn doom(&mut self) {
        while self.doomed.len <= DOOMED_MAX - usize::from(CHUNK_KEYS) {
            let chunk = match self.doomed.last_chunk {
                NONE => self.wheel.dead_head(),
                last => self.pool.header(last).next,
            };
            if chunk == NONE {
                break;
            }
            self.doom_chunk(chunk);
        }
    }

    #[inline(never)]
    fn doom_chunk(&mut self, chunk: u32) {
        self.place_doomed();
        let next = self.pool.header(chunk).next;
        if next != NONE {
            self.pool.prefetch_chunk(next);
        }
        let keys = self.pool.keys(chunk);
        for (at, key) in (self.doomed.first + self.doomed.len..).zip(keys) {
            self.doomed.places[at % DOOMED_MAX] = self.index.touch(self.index.hash(*key));
        }
        self.doomed.len += keys.len();
        self.doomed.last_chunk = chunk;
    }

    /// Works the places out anew if a partition has taken another size.
    #[inline(always)]
    fn place_doomed(&mut self) {
        if self.doomed.generation != self.index.generation() {
            self.doomed.generation = self.index.generation();
            self.doomed.places = self.doomed.places.map(|place| self.index.place(place.hash()));
        }
    }

    /// Removes up to `count` of the doomed keys from the index, and frees chunks with their last; how many keys and chunks
    /// that were.
    #[inline(always)]
    fn bury(&mut self, count: usize) -> usize {
        self.place_doomed();
        let mut count = count.min(self.doomed.len);
        let (mut cost, mut removed) = (count, 0);
        while count > 0 {
            if self.doomed.left == 0 {
                let (chunk, header) = (self.wheel.dead_head(), self.pool.header(self.wheel.dead_head()));
                self.doomed.slot = slot_at(chunk, header.first);
                self.doomed.left = usize::from(header.len - header.first);
            }
            let run = count.min(self.doomed.left);
            let Doomed { places, first, slot, .. } = &self.doomed;
            let places = (*first..first + run).map(|at| places[at % DOOMED_MAX]);
            removed += self.index.remove_all(places.zip(*slot..));
            self.doomed.first += run;
            self.doomed.len -= run;
            self.doomed.slot += run as u32;
            self.doomed.left -= run;
            count -= run;
            if self.doomed.left == 0 {
                self.wheel.free_dead(&mut self.pool);
                cost += 1;
            }
        }
        if self.doomed.len == 0 {
            self.doomed.last_chunk = NONE;
        }
        self.room += removed;
        self.counts.forgotten_on_time += removed as u64;
        cost
    }

    /// Checks that the doomed are the first of the dead.
    pub(super) fn validate_doomed(&self) {
        let Doomed { places, first, len, slot, left, last_chunk, generation } = &self.doomed;
        let (mut chunk, mut found) = (if *len == 0 { NONE } else { self.wheel.dead_head() }, 0);
        assert_eq!(*last_chunk == NONE, *len == 0, "the last chunk of the doomed");
        while found < *len {
            let keys = self.pool.keys(chunk);
            let keys = if found == 0 && *left > 0 { &keys[keys.len() - left..] } else { keys };
            for key in keys {
                let place = self.index.place(self.index.hash(*key));
                let is_good = *generation == self.index.generation();
                assert!(!is_good || places[(first + found) % DOOMED_MAX] == place, "the place of a doomed key");
                found += 1;
            }
            assert!(found != *len || chunk == *last_chunk, "the doomed end with a chunk");
            chunk = self.pool.header(chunk).next;
        }
        assert_eq!(found, *len, "the doomed are whole chunks");
        if *left > 0 {
            let (head, header) = (self.wheel.dead_head(), self.pool.header(self.wheel.dead_head()));
            assert_eq!(*slot as usize + left, slot_at(head, header.first) as usize + self.pool.keys(head).len());
        }
    }
}

impl Doomed {
    pub(super) const NONE: Self =
        Self { places: [Place::ZERO; DOOMED_MAX], first: 0, len: 0, slot: 0, left: 0, last_chunk: NONE, generation: 0 };
}

impl Ahead {
    fn new() -> Self {
        Self { places: [Place::ZERO; GROUP], len: 0, generation: 0 }
    }
}
