//! Finds the slot number of a key. The index holds no keys: they live in the wheel, and it points there.
//!
//! It is split into partitions of a few thousand keys, each a table that grows alone, so that no call moves more keys
//! than one partition holds.

mod bucket;
mod partition;
#[cfg(test)]
mod work;

use crate::Fingerprint;
use bucket::{Bucket, FREE};
use partition::{Partition, Vacancy};

use super::pool::Pool;

/// Keys that a partition holds when the cache is full, on average, at most: the fewer, the shorter the call that grows it.
const PARTITION_KEYS: usize = 8192;
/// Likewise where that would make so many partitions that the processor's nearest cache does not hold their heads.
const PARTITION_KEYS_OF_MANY: usize = 32_768;
const MANY: usize = 2048;
const PARTITIONS_MAX: usize = 1 << 16;
/// Partitions that one call of `shrink` looks at.
const PARTITIONS_PER_SHRINK: usize = 256;

/// Spreads fingerprints that callers made (`Fingerprint::from_u128`: counters, UUIDs with fixed bits) evenly, in a way
/// that nobody outside can predict.
#[derive(Clone, Copy)]
pub(crate) struct IndexHasher {
    keys: [u64; 2],
}

impl IndexHasher {
    /// `random`: 128 bits that nobody outside knows.
    pub(crate) fn new(random: [u64; 2]) -> Self {
        Self { keys: random }
    }

    /// Multiplies the keyed halves and folds the product; then multiplies once more (by 2^64 over the golden ratio), as one
    /// product of numbers in a row goes up in steps: with one secret in 500, all of a bucket's had the same tag.
    #[inline(always)]
    pub(crate) fn hash(self, key: Fingerprint) -> IndexHash {
        let product = u128::from(key.0[0] ^ self.keys[0]) * u128::from(key.0[1] ^ self.keys[1]);
        let folded = product as u64 ^ (product >> 64) as u64;
        let product = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = product ^ product >> 32; // the low bits of a product depend on few
        IndexHash(mixed + u64::from(mixed as u8 == FREE))
    }
}

/// The bits by which a key is placed. No two choices share one:
///
/// ```text
/// bit   63 .. 54   47 .. 32    31 .. 8   7 .. 0
///       shard      partition   bucket    tag (never 0, which marks a free lane: 0 has become 1)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexHash(u64);

impl IndexHash {
    const ZERO: Self = Self(0);

    #[inline(always)]
    fn tag(self) -> u8 {
        self.0 as u8
    }

    /// Multiply-shift (Lemire, "Fast random integer generation in an interval", 2019), so that a table may have any
    /// size.
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

/// Where a search for a key begins: good until its partition takes another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    hash: IndexHash,
    /// A bucket.
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
    /// A power of two.
    partitions: Box<[Partition]>,
    hasher: IndexHasher,
    keys: usize,
    buckets: usize,
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

    /// Changes whenever a partition takes another size, and with it the places of its keys.
    #[inline(always)]
    pub(crate) fn resizes(&self) -> u64 {
        self.resizes
    }

    #[inline(always)]
    pub(crate) fn find(&self, place: Place, key: Fingerprint, pool: &Pool) -> Option<u32> {
        self.partition(place).find(place, key, pool)
    }

    /// Touches what a search will need after the home bucket: the chunk of a likely match, and the next bucket where keys
    /// have overflowed.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, place: Place, pool: &Pool) {
        self.partition(place).prefetch_next(place, pool);
    }

    /// The place of a hash, its bucket touched.
    #[inline(always)]
    pub(crate) fn prefetch_home(&self, hash: IndexHash) -> Place {
        let partition = &self.partitions[hash.partition(self.partitions.len())];
        let home = hash.bucket(partition.len());
        partition.prefetch(home);
        Place { hash, home }
    }

    /// Where to add a key, if a look at its home bucket is enough to know that it is not in the index; `None` says nothing.
    #[inline(always)]
    pub(crate) fn vacancy(&mut self, place: Place) -> Option<Vacancy<'_>> {
        self.partition_mut(place).vacancy(place)
    }

    /// Counts the keys that filled vacancies.
    #[inline(always)]
    pub(crate) fn count_added(&mut self, count: usize) {
        self.keys += count;
    }

    /// Adds a key that is not in the index. Grows the key's partition where that is full.
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

    /// Tells the entry of a slot number where its key lies now.
    pub(crate) fn repoint(&mut self, place: Place, from: u32, to: u32) {
        self.partition_mut(place).repoint(place, from, to);
    }

    /// Removes the entry of a slot number.
    pub(crate) fn remove(&mut self, place: Place, slot: u32) {
        self.remove_all(std::iter::once((place, slot)));
    }

    /// Removes the entries of slot numbers; how many there were. One that was forgotten on purpose before has none.
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

    /// Shrinks the next partition from `cursor` on that has become much too large, looking at a bounded number of them;
    /// `false` at the end.
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
