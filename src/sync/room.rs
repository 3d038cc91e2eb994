//! Keeps `max_keys` exact over all shards without a shared counter on every call: shards draw room in portions, and give
//! back what they do not use.

use super::{Inner, Local};
use crate::engine::{Full, IndexHash, Shard};
use parking_lot::MutexGuard;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const PORTION_MAX: usize = 1024;

/// Room that no shard has.
pub(super) struct Spare {
    left: AtomicUsize,
    /// Set aside for batches that are under way.
    lent: AtomicUsize,
    shards: usize,
    portion: usize,
}

impl Spare {
    pub(super) fn new(max_keys: usize, shards: usize) -> Self {
        let portion = (max_keys / (shards * 64)).clamp(1, PORTION_MAX);
        Self { left: AtomicUsize::new(max_keys), lent: AtomicUsize::new(0), shards, portion }
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    /// Sets room aside for a batch, if there is as much.
    pub(super) fn lend(&self, count: usize) -> bool {
        self.lent.fetch_add(count, Relaxed);
        let lent = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(count)).is_ok();
        if !lent {
            self.lent.fetch_sub(count, Relaxed);
        }
        lent
    }

    /// Takes back what a batch has not used of what was lent to it.
    pub(super) fn take_back(&self, lent: usize, unused: usize) {
        self.put(unused);
        self.lent.fetch_sub(lent, Release); // after `put`: who sees that nothing is lent sees what was given back
    }

    fn is_lent(&self) -> bool {
        self.lent.load(Acquire) > 0
    }

    fn put(&self, count: usize) {
        if count > 0 {
            self.left.fetch_add(count, Relaxed);
        }
    }

    /// Takes back what a shard has too much of, with some play so that it does not go back and forth.
    #[inline]
    pub(super) fn settle(&self, shard: &mut Shard) {
        if shard.room > 2 * self.portion {
            self.put(shard.room - self.portion);
            shard.room = self.portion;
        }
    }

    /// Gives a shard a portion; a small one when little is left, so that the last room is not stranded.
    #[cold]
    fn supply(&self, shard: &mut Shard) -> bool {
        let portion = |left: usize| (left / (2 * self.shards)).clamp(1, self.portion).min(left);
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| (left > 0).then(|| left - portion(left)));
        shard.room += before.map_or(0, portion);
        before.is_ok()
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
        loop {
            if local.shard.room == 0 {
                self.spare.supply(&mut local.shard);
            }
            match call(&mut local.shard) {
                Ok(result) => {
                    self.spare.settle(&mut local.shard);
                    return Ok(result);
                }
                Err(Full) => {
                    local = self.find_room(at, local).ok_or(Full)?;
                }
            }
        }
    }

    /// Gathers the room that shards have and do not need. With all locks held, so that `None` is true of one moment: no
    /// room anywhere, and no batch that may give some back.
    #[cold]
    fn find_room<'a>(&'a self, at: usize, local: MutexGuard<'a, Local>) -> Option<MutexGuard<'a, Local>> {
        drop(local);
        // In the order of their numbers, as whoever holds more than one does.
        let mut all: Vec<_> = (0..self.shards.len()).map(|shard| self.enter(shard, 0)).collect();
        for local in &mut all {
            local.shard.gather_room(self.published.now());
            self.spare.put(std::mem::take(&mut local.shard.room));
        }
        let is_lent = self.spare.is_lent();
        if self.spare.left() == 0 && !is_lent && !(self.forgets_oldest && self.evict_oldest(&mut all)) {
            return None;
        }
        drop(all);
        if is_lent {
            std::thread::yield_now(); // to the batch that has it
        }
        Some(self.enter(at, 0))
    }

    /// Forgets the key that would expire first over all shards.
    fn evict_oldest(&self, all: &mut [MutexGuard<'_, Local>]) -> bool {
        let oldest = all.iter_mut().filter(|local| local.shard.len() > 0).min_by_key(|local| local.shard.next_due());
        oldest.is_some_and(|local| {
            let evicted = local.shard.evict();
            self.spare.put(std::mem::take(&mut local.shard.room));
            evicted
        })
    }
}
