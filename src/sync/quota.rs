//! Keeps `max_keys` exact over all shards without a shared counter on every call: shards draw quota
//! in portions, and give back what they do not use.

use crate::engine::Shard;
use crate::locks::AtomicU64;
use crate::locks::Ordering::{Acquire, Relaxed, Release};

const PORTION_MAX: usize = 1024;

/// Quota that no shard has, and the part of it that batches under way have borrowed. Both are in
/// one word, so that they are read in the same moment.
///
/// ```text
/// bit   63 .. 32   31 .. 0
///       lent       left
/// ```
pub(super) struct Spare {
    word: AtomicU64,
    shards: u64,
    portion: usize,
}

const LENT: u32 = 32;
const LEFT: u64 = (1 << LENT) - 1;

impl Spare {
    pub(super) fn new(max_keys: usize, shards: usize) -> Self {
        let portion = (max_keys / (shards * 64)).clamp(1, PORTION_MAX);
        Self { word: AtomicU64::new(max_keys as u64), shards: shards as u64, portion }
    }

    pub(super) fn left(&self) -> usize {
        (self.word.load(Relaxed) & LEFT) as usize
    }

    /// Quota left, and lent, both of one moment: after `return_unused` of every batch that is seen
    /// to have lent nothing.
    pub(super) fn left_and_lent(&self) -> (usize, usize) {
        let word = self.word.load(Acquire);
        ((word & LEFT) as usize, (word >> LENT) as usize)
    }

    /// Sets quota aside for a batch, if there is enough.
    pub(super) fn lend(&self, count: usize) -> bool {
        let count = count as u64;
        let lend = |word: u64| (word & LEFT >= count).then(|| word - count + (count << LENT));
        self.word.fetch_update(Relaxed, Relaxed, lend).is_ok()
    }

    /// Takes back what a batch has not used of the quota lent to it.
    pub(super) fn return_unused(&self, lent: usize, unused: usize) {
        // Ordered after the batch's changes to the shards: who sees that nothing is lent sees
        // those.
        self.word.fetch_sub(((lent as u64) << LENT) - unused as u64, Release);
    }

    pub(super) fn put(&self, count: usize) {
        if count > 0 {
            self.word.fetch_add(count as u64, Relaxed);
        }
    }

    /// Takes back a shard's surplus, with some play so that it does not go back and forth.
    #[inline]
    pub(super) fn take_surplus(&self, shard: &mut Shard) {
        if shard.quota > 2 * self.portion {
            self.put(shard.quota - self.portion);
            shard.quota = self.portion;
        }
    }

    /// Gives a shard a portion; a small one when little is left, so that the last of it is not
    /// stranded in one shard.
    #[cold]
    pub(super) fn supply(&self, shard: &mut Shard) {
        let portion = |left: u64| (left / (2 * self.shards)).clamp(1, self.portion as u64).min(left);
        let take = |word: u64| (word & LEFT > 0).then(|| word - portion(word & LEFT));
        let before = self.word.fetch_update(Relaxed, Relaxed, take);
        shard.quota += before.map_or(0, |word| portion(word & LEFT) as usize);
    }
}
