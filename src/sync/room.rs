//! Keeps `max_keys` exact over all shards without a shared counter on every call: shards draw room in portions, and give
//! back what they do not use.

use super::inner::{Inner, Local};
use crate::engine::{Full, IndexHash, Shard};
use crate::locks::Ordering::{Acquire, Relaxed, Release};
use crate::locks::{AtomicU64, MutexGuard, yield_now};
use crate::watermark::Progress;

const PORTION_MAX: usize = 1024;

/// Room that no shard has, and what of it batches that are under way have borrowed: both in one word, so that they are
/// read in the same moment.
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

    /// Sets room aside for a batch, if there is as much.
    pub(super) fn lend(&self, count: usize) -> bool {
        let count = count as u64;
        let lend = |word: u64| (word & LEFT >= count).then(|| word - count + (count << LENT));
        self.word.fetch_update(Relaxed, Relaxed, lend).is_ok()
    }

    /// Takes back what a batch has not used of what was lent to it.
    pub(super) fn take_back(&self, lent: usize, unused: usize) {
        // After what the batch did to the shards: who sees that nothing is lent sees that as well.
        self.word.fetch_sub(((lent as u64) << LENT) - unused as u64, Release);
    }

    fn put(&self, count: usize) {
        if count > 0 {
            self.word.fetch_add(count as u64, Relaxed);
        }
    }

    /// Takes back what a shard has too much of, with some play so that it does not go back and forth.
    #[inline]
    pub(super) fn settle(&self, shard: &mut Shard) {
        if shard.quota > 2 * self.portion {
            self.put(shard.quota - self.portion);
            shard.quota = self.portion;
        }
    }

    /// Gives a shard a portion; a small one when little is left, so that the last room is not stranded.
    #[cold]
    fn supply(&self, shard: &mut Shard) {
        let portion = |left: u64| (left / (2 * self.shards)).clamp(1, self.portion as u64).min(left);
        let take = |word: u64| (word & LEFT > 0).then(|| word - portion(word & LEFT));
        let before = self.word.fetch_update(Relaxed, Relaxed, take);
        shard.quota += before.map_or(0, |word| portion(word & LEFT) as usize);
    }
}

impl Inner {
    /// Runs `call` on a key's shard, finding room where it says that there is none.
    #[inline]
    pub(super) fn with_room<R>(
        &self,
        hash: IndexHash,
        mut call: impl FnMut(&mut Shard) -> Result<R, Full>,
    ) -> Result<R, Full> {
        let at = hash.shard(self.shards.len());
        let mut local = self.enter(at, 1);
        let mut may_have_room = true;
        loop {
            if local.shard.quota == 0 {
                self.spare.supply(&mut local.shard);
            }
            match call(&mut local.shard) {
                Ok(result) => {
                    self.spare.settle(&mut local.shard);
                    return Ok(result);
                }
                // Asked again though no room was found: meanwhile another may have recorded this very key with the last.
                Err(Full) if may_have_room => (local, may_have_room) = self.find_room(at, local),
                Err(Full) => return Err(Full),
            }
        }
    }

    /// Gathers the room that shards have and do not need; whether there was any. With all locks held, so that `false` is true
    /// of one moment: no room anywhere, and no batch that may give some back. The shard is not let go of after that moment.
    #[cold]
    fn find_room<'a>(&'a self, at: usize, local: MutexGuard<'a, Local>) -> (MutexGuard<'a, Local>, bool) {
        drop(local);
        // Nothing is called full by a clock that was read long ago.
        self.change_progress(Progress::read_clock);
        // In the order of their numbers, as whoever holds more than one does.
        let mut all: Vec<_> = (0..self.shards.len()).map(|shard| self.enter(shard, 0)).collect();
        for local in &mut all {
            local.shard.gather_quota(self.published.now());
            self.spare.put(std::mem::take(&mut local.shard.quota));
        }
        let spare = self.spare.word.load(Acquire);
        if spare == 0 && !(self.forgets_oldest && self.evict_oldest(&mut all)) {
            return (all.swap_remove(at), false);
        }
        drop(all);
        if spare & LEFT == 0 {
            yield_now(); // to the batch that has it
        }
        (self.enter(at, 0), true)
    }

    /// Forgets the key that would expire first over all shards.
    fn evict_oldest(&self, all: &mut [MutexGuard<'_, Local>]) -> bool {
        let oldest = all.iter_mut().filter(|local| local.shard.len() > 0).min_by_key(|local| local.shard.next_due());
        oldest.is_some_and(|local| {
            let evicted = local.shard.evict();
            self.spare.put(std::mem::take(&mut local.shard.quota));
            evicted
        })
    }
}
