//! One partition of the index: a hash table of slot numbers, with linear probing over buckets.
//!
//! ```text
//! bucket     0        1        2        3        4        home of key k: bucket 1
//!          [    ]   [full]   [full]   [ k  ]   [    ]     k has passed buckets 1 and 2
//! overflow   0        1        1        0        0
//! ```
//!
//! **Invariant: the overflow count of a bucket is the number of keys that passed it.** A search
//! begins at the home bucket and ends at the key or behind a bucket whose count is 0. Counts that
//! are too low hide keys; counts that are too high only make searches longer. So adding a key
//! increments every bucket on its way, and removing it decrements the same ones.
//!
//! **Invariant: there is always a free lane.** A table grows at 13 keys for every two buckets,
//! which have 24 lanes. So a search for a free lane ends.

#[cfg(test)]
mod work;

use super::bucket::Bucket;
use super::{IndexHasher, Place};
use crate::Fingerprint;
use crate::engine::arch::prefetch;
use crate::engine::pool::Pool;

/// The keys in two buckets, on average, from which on the table grows: a load of 13/24 = 0.54.
const KEYS_PER_TWO_BUCKETS: usize = 13;
/// Keys that are prefetched together when the table is rebuilt.
const GROUP: usize = 32;

#[derive(Default)]
pub(crate) struct Partition {
    buckets: Box<[Bucket]>,
    /// How many more keys the table takes before it grows.
    growth_left: u32,
}

/// A free lane of its home bucket for a key that is proved to be new.
pub(crate) struct Vacancy<'a> {
    growth_left: &'a mut u32,
    bucket: &'a mut Bucket,
    lane: usize,
    tag: u8,
}

impl Vacancy<'_> {
    #[inline(always)]
    pub(crate) fn fill(self, slot: u32) {
        *self.growth_left -= 1;
        self.bucket.fill(self.lane, self.tag, slot);
    }
}

impl Partition {
    /// In buckets.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    fn keys(&self) -> usize {
        keys_max(self.len()) - self.growth_left as usize
    }

    #[inline(always)]
    pub(crate) fn find(&self, place: Place, key: Fingerprint, pool: &Pool) -> Option<u32> {
        let home = place.home as usize;
        let bucket = self.buckets.get(home)?;
        let found = bucket.find(place.hash.tag(), key, pool);
        if found.is_some() || bucket.overflow() == 0 {
            return found;
        }
        self.find_beyond_home(home, place.hash.tag(), key, pool)
    }

    #[cold]
    fn find_beyond_home(&self, home: usize, tag: u8, key: Fingerprint, pool: &Pool) -> Option<u32> {
        let mut at = self.after(home);
        while at != home {
            let bucket = &self.buckets[at];
            let found = bucket.find(tag, key, pool);
            if found.is_some() || bucket.overflow() == 0 {
                return found;
            }
            at = self.after(at);
        }
        None
    }

    #[inline(always)]
    pub(crate) fn prefetch_next(&self, place: Place, pool: &Pool) {
        let Some(bucket) = self.buckets.get(place.home as usize) else { return };
        if let Some(slot) = bucket.candidate(place.hash.tag()) {
            pool.prefetch_key(slot);
        }
        if bucket.overflow() > 0
            && let Some(next) = self.buckets.get(self.after(place.home as usize))
        {
            prefetch(next);
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, home: u32) {
        if let Some(bucket) = self.buckets.get(home as usize) {
            prefetch(bucket);
        }
    }

    /// A free lane of the home bucket, if that bucket proves that the key is new and the table does
    /// not have to grow.
    #[inline(always)]
    pub(crate) fn vacancy(&mut self, place: Place) -> Option<Vacancy<'_>> {
        if self.is_full() {
            return None;
        }
        let bucket = self.buckets.get_mut(place.home as usize)?;
        let lane = bucket.vacancy(place.hash.tag())?;
        Some(Vacancy { growth_left: &mut self.growth_left, bucket, lane, tag: place.hash.tag() })
    }

    /// Whether the table must grow before another key is added.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.growth_left == 0
    }

    /// Adds a key that is not in the table, which is not full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, place: Place, slot: u32) {
        self.growth_left -= 1;
        self.add(place.home as usize, place.hash.tag(), slot);
    }

    #[inline(always)]
    fn add(&mut self, home: usize, tag: u8, slot: u32) {
        if !self.buckets[home].try_add(tag, slot) {
            self.add_beyond_home(home, tag, slot);
        }
    }

    #[cold]
    fn add_beyond_home(&mut self, home: usize, tag: u8, slot: u32) {
        let mut at = home;
        while !self.buckets[at].try_add(tag, slot) {
            self.buckets[at].add_overflow(1);
            at = self.after(at);
        }
    }

    /// Changes the entry of a key that has moved to another slot number. The entry is in the table.
    pub(crate) fn repoint(&mut self, place: Place, from: u32, to: u32) {
        let mut at = place.home as usize;
        while !self.buckets[at].try_repoint(place.hash.tag(), from, to) {
            at = self.after(at);
        }
    }

    /// Removes the entry of this slot number; `false` if there is none.
    #[inline(always)]
    pub(crate) fn remove(&mut self, place: Place, slot: u32) -> bool {
        let home = place.home as usize;
        let Some(bucket) = self.buckets.get_mut(home) else { return false };
        let is_removed = bucket.try_remove(place.hash.tag(), slot)
            || (bucket.overflow() > 0 && self.remove_beyond_home(home, place.hash.tag(), slot));
        if is_removed {
            self.growth_left += 1;
        }
        is_removed
    }

    /// Searches beyond the home bucket. If the entry is there, decrements the overflow counts of
    /// the buckets before it.
    #[cold]
    fn remove_beyond_home(&mut self, home: usize, tag: u8, slot: u32) -> bool {
        let mut at = self.after(home);
        while at != home {
            if self.buckets[at].try_remove(tag, slot) {
                let mut passed = home;
                while passed != at {
                    self.buckets[passed].add_overflow(-1);
                    passed = self.after(passed);
                }
                return true;
            }
            if self.buckets[at].overflow() == 0 {
                return false;
            }
            at = self.after(at);
        }
        false
    }

    /// Grows by a quarter. All partitions fill at the same rate; `stagger` (0 to 3) makes them grow
    /// at different times.
    #[cold]
    pub(crate) fn grow(&mut self, stagger: usize, pool: &Pool, hasher: IndexHasher) {
        let buckets = match self.len() {
            0 => 4,
            1..16 => 16 + stagger,
            before => before + before / 4,
        };
        self.rebuild(buckets, pool, hasher);
    }

    /// Shrinks to the size that the keys need, if that frees at least half; `true` if it did.
    pub(crate) fn shrink(&mut self, pool: &Pool, hasher: IndexHasher) -> bool {
        let keys = self.keys();
        let buckets = if keys == 0 { 0 } else { keys.div_ceil(KEYS_PER_TWO_BUCKETS / 2).max(4) };
        let saves_half = buckets <= self.len() / 2 && self.len() > 0;
        if saves_half {
            self.rebuild(buckets, pool, hasher);
        }
        saves_half
    }

    /// Gives the table another size and adds every key again. The hashes are computed from the
    /// keys, which are read from the pool in groups so that cache misses overlap.
    fn rebuild(&mut self, buckets: usize, pool: &Pool, hasher: IndexHasher) {
        self.growth_left = (keys_max(buckets) - self.keys()) as u32;
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::EMPTY; buckets].into_boxed_slice());
        let mut group = [0; GROUP];
        let mut filled = 0;
        for (_, slot) in old.iter().flat_map(Bucket::occupied) {
            pool.prefetch_key(slot);
            group[filled] = slot;
            filled += 1;
            if filled == GROUP {
                group.iter().for_each(|slot| self.reinsert(*slot, pool, hasher));
                filled = 0;
            }
        }
        group[..filled].iter().for_each(|slot| self.reinsert(*slot, pool, hasher));
    }

    fn reinsert(&mut self, slot: u32, pool: &Pool, hasher: IndexHasher) {
        let hash = hasher.hash(pool.key(slot));
        self.add(hash.bucket(self.len()) as usize, hash.tag(), slot);
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// Checks that a search finds every entry, and recounts keys and overflow.
    pub(crate) fn validate(&self, pool: &Pool, hasher: IndexHasher) -> usize {
        let mut keys = 0;
        let mut overflow = vec![0; self.buckets.len()];
        for (found, bucket) in self.buckets.iter().enumerate() {
            for (tag, slot) in bucket.occupied() {
                let key = pool.key(slot);
                let hash = hasher.hash(key);
                assert_eq!(tag, hash.tag(), "a tag");
                let place = Place { hash, home: hash.bucket(self.len()) };
                assert_eq!(self.find(place, key, pool), Some(slot), "an entry is found");
                keys += 1;
                let mut at = place.home as usize;
                while at != found {
                    overflow[at] += 1;
                    at = self.after(at);
                }
            }
        }
        assert_eq!(overflow, self.buckets.iter().map(Bucket::overflow).collect::<Vec<_>>(), "overflow counts");
        assert_eq!(keys, self.keys(), "keys of a partition");
        keys
    }
}

/// How many keys a table of this many buckets takes before it grows.
fn keys_max(buckets: usize) -> usize {
    buckets * KEYS_PER_TWO_BUCKETS / 2
}
