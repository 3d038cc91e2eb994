//! The index: finds the slot number of a key. It stores no keys. They are in the wheel's chunks.
//!
//! ```text
//! key ─► IndexHash ─► partition ─► home bucket ─► lanes with the tag ─► slot number ─► key in pool
//!                     a table      one cache      an equal tag is a     compared with the whole
//!                                  line           hint only             key
//! ```
//!
//! The index is split into partitions of a few thousand keys. Each is a table that grows on its
//! own, so that no call moves more keys than one partition holds.

mod bucket;
mod partition;
#[cfg(test)]
mod work;

use crate::Fingerprint;
use bucket::{Bucket, FREE};
use partition::{Partition, Vacancy};

use super::pool::Pool;

/// The most keys that a partition holds on average when the cache is full. The fewer, the shorter
/// is the call that grows it.
const PARTITION_KEYS: usize = 8192;
/// The same in large caches: with more than `MANY` partitions, the processor's nearest cache no
/// longer holds the partitions' headers.
const PARTITION_KEYS_OF_MANY: usize = 32_768;
const MANY: usize = 2048;
const PARTITIONS_MAX: usize = 1 << 16;
/// Partitions that one call of `shrink` looks at.
const PARTITIONS_PER_SHRINK: usize = 256;

/// Hashes fingerprints with a secret. Callers may make their own fingerprints, such as counters or
/// UUIDs with fixed bits (`Fingerprint::from_u128`). These, too, are spread evenly, and nobody
/// outside can predict how.
#[derive(Clone, Copy)]
pub(crate) struct IndexHasher {
    keys: [u64; 2],
}

impl IndexHasher {
    /// `random`: 128 secret bits.
    pub(crate) fn new(random: [u64; 2]) -> Self {
        Self { keys: random }
    }

    /// Multiplies the keyed halves, folds the product, and multiplies once more (by 2^64 over the
    /// golden ratio). One product is not enough: for consecutive numbers it rises in equal steps.
    /// With one secret in 500, all keys of a bucket had the same tag.
    #[inline(always)]
    pub(crate) fn hash(self, key: Fingerprint) -> IndexHash {
        let product = u128::from(key.0[0] ^ self.keys[0]) * u128::from(key.0[1] ^ self.keys[1]);
        let folded = product as u64 ^ (product >> 64) as u64;
        let product = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = product ^ product >> 32; // the low bits of a product depend on few
        IndexHash(mixed + u64::from(mixed as u8 == FREE))
    }
}

/// The hash of a key. Each choice uses bits of its own:
///
/// ```text
/// bit   63 .. 54   47 .. 32    31 .. 8   7 .. 0
///       shard      partition   bucket    tag (0 marks a free lane, so a tag of 0 becomes 1)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexHash(u64);

impl IndexHash {
    const ZERO: Self = Self(0);

    #[inline(always)]
    fn tag(self) -> u8 {
        self.0 as u8
    }

    /// Multiply-shift (Lemire, "Fast random integer generation in an interval", 2019): a table may
    /// have any size, not only powers of two.
    #[inline(always)]
    fn bucket(self, buckets: usize) -> u32 {
        ((u64::from(self.0 as u32 >> 8) * buckets as u64) >> 24) as u32
    }

    #[inline(always)]
    fn partition(self, partitions: usize) -> usize {
        (self.0 >> 32) as usize & (partitions - 1)
    }

    #[inline(always)]
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.0 >> 54) as usize & (shards - 1)
    }

    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

/// Where a search for a key begins. Valid until its partition is resized (`Index::resizes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    hash: IndexHash,
    /// The number of the home bucket.
    home: u32,
}

impl Place {
    pub(crate) const ZERO: Self = Self { hash: IndexHash::ZERO, home: 0 };

    #[inline(always)]
    pub(crate) fn hash(self) -> IndexHash {
        self.hash
    }
}

pub(crate) struct Index {
    /// A power of two of them.
    partitions: Box<[Partition]>,
    hasher: IndexHasher,
    keys: usize,
    buckets: usize,
    /// Counts the times that a partition was resized.
    resizes: u64,
}

impl Index {
    pub(crate) fn new(keys_max: usize, hasher: IndexHasher) -> Self {
        let many = keys_max.div_ceil(PARTITION_KEYS_OF_MANY).max(MANY);
        let partitions = keys_max.div_ceil(PARTITION_KEYS).min(many).next_power_of_two().min(PARTITIONS_MAX);
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            hasher,
            keys: 0,
            buckets: 0,
            resizes: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn hash(&self, key: Fingerprint) -> IndexHash {
        self.hasher.hash(key)
    }

    #[inline(always)]
    pub(crate) fn place(&self, hash: IndexHash) -> Place {
        let home = hash.bucket(self.partitions[hash.partition(self.partitions.len())].len());
        Place { hash, home }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys
    }

    /// Changes whenever a partition is resized, which makes places invalid.
    #[inline(always)]
    pub(crate) fn resizes(&self) -> u64 {
        self.resizes
    }

    #[inline(always)]
    pub(crate) fn find(&self, place: Place, key: Fingerprint, pool: &Pool) -> Option<u32> {
        self.partition(place).find(place, key, pool)
    }

    /// Prefetches what a search will need after the home bucket: the chunk of a likely match, and
    /// the next bucket if the home bucket has overflowed.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, place: Place, pool: &Pool) {
        self.partition(place).prefetch_next(place, pool);
    }

    /// The place of a hash. Prefetches its home bucket.
    #[inline(always)]
    pub(crate) fn prefetch_home(&self, hash: IndexHash) -> Place {
        let partition = &self.partitions[hash.partition(self.partitions.len())];
        let home = hash.bucket(partition.len());
        partition.prefetch(home);
        Place { hash, home }
    }

    /// The single probe of the fast path: a free lane, if the home bucket proves that the key is
    /// not in the index. `None` proves nothing.
    #[inline(always)]
    pub(crate) fn vacancy(&mut self, place: Place) -> Option<Vacancy<'_>> {
        self.partition_mut(place).vacancy(place)
    }

    /// Counts keys that were added through `vacancy`.
    #[inline(always)]
    pub(crate) fn count_added(&mut self, count: usize) {
        self.keys += count;
    }

    /// Adds a key that is not in the index. Grows the key's partition first if it is full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, place: Place, slot: u32, pool: &Pool) {
        let number = place.hash.partition(self.partitions.len());
        let partition = &mut self.partitions[number];
        if partition.is_full() {
            self.buckets -= partition.len();
            partition.grow(number % 4, pool, self.hasher);
            self.buckets += partition.len();
            self.resizes += 1;
            let home = place.hash.bucket(partition.len());
            partition.insert(Place { home, ..place }, slot);
        } else {
            partition.insert(place, slot);
        }
        self.keys += 1;
    }

    /// Changes the entry of a key that has moved to another slot number.
    pub(crate) fn repoint(&mut self, place: Place, from: u32, to: u32) {
        self.partition_mut(place).repoint(place, from, to);
    }

    /// Removes the entry of a slot number.
    pub(crate) fn remove(&mut self, place: Place, slot: u32) {
        self.remove_all(std::iter::once((place, slot)));
    }

    /// Removes the entries of slot numbers, and returns how many there were. A hole has none.
    #[inline(always)]
    pub(crate) fn remove_all(&mut self, entries: impl Iterator<Item = (Place, u32)>) -> usize {
        let mut removed = 0;
        for (place, slot) in entries {
            if self.partition_mut(place).remove(place, slot) {
                removed += 1;
            }
        }
        self.keys -= removed;
        removed
    }

    /// Shrinks the next partition from `cursor` on that is much too large; `false` at the end of
    /// the partitions. Looks at a bounded number of them.
    pub(crate) fn shrink(&mut self, cursor: &mut usize, pool: &Pool) -> bool {
        let first = (*cursor).min(self.partitions.len());
        for partition in self.partitions[first..].iter_mut().take(PARTITIONS_PER_SHRINK) {
            *cursor += 1;
            self.buckets -= partition.len();
            let has_shrunk = partition.shrink(pool, self.hasher);
            self.buckets += partition.len();
            if has_shrunk {
                self.resizes += 1;
                break;
            }
        }
        *cursor < self.partitions.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.partitions.len() * size_of::<Partition>() + self.buckets * size_of::<Bucket>()
    }

    pub(crate) fn validate(&self, pool: &Pool) {
        let keys: usize = self.partitions.iter().map(|partition| partition.validate(pool, self.hasher)).sum();
        assert_eq!(keys, self.keys, "keys of the index");
        let buckets: usize = self.partitions.iter().map(Partition::len).sum();
        assert_eq!(buckets, self.buckets, "buckets of the index");
    }

    #[inline(always)]
    fn partition(&self, place: Place) -> &Partition {
        &self.partitions[place.hash.partition(self.partitions.len())]
    }

    #[inline(always)]
    fn partition_mut(&mut self, place: Place) -> &mut Partition {
        let partitions = self.partitions.len();
        &mut self.partitions[place.hash.partition(partitions)]
    }
}
