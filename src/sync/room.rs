//! Keeps `max_keys` exact over all shards without a shared counter on every call: shards draw room in portions, and give
//! back what they do not use.

use super::{Inner, Local};
use crate::engine::{Full, IndexHash, Shard};
use parking_lot::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PORTION_MAX: usize = 1024;

/// Room that no shard has. A mere count: it guards no data, so no order is needed.
pub(super) struct Spare {
    left: AtomicUsize,
    shards: usize,
    portion: usize,
}

impl Spare {
    pub(super) fn new(max_keys: usize, shards: usize) -> Self {
        let portion = (max_keys / (shards * 64)).clamp(1, PORTION_MAX);
        Self { left: AtomicUsize::new(max_keys), shards, portion }
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    /// Takes `count` if there is as much.
    pub(super) fn take(&self, count: usize) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(count)).is_ok()
    }

    pub(super) fn put(&self, count: usize) {
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

    /// Gathers the room that other shards have and do not need. One shard's lock is held at a time. `None` if there is
    /// none anywhere; otherwise another thread may be faster, and so the caller comes back until that is so.
    #[cold]
    fn find_room<'a>(&'a self, at: usize, local: MutexGuard<'a, Local>) -> Option<MutexGuard<'a, Local>> {
        drop(local);
        let mut found = 0;
        for shard in 0..self.shards.len() {
            let mut local = self.enter(shard, 0);
            local.shard.gather_room(self.published.now());
            found += local.shard.room;
            self.spare.put(std::mem::take(&mut local.shard.room));
        }
        if found == 0 && self.spare.left() == 0 && !(self.forgets_oldest && self.evict_oldest()) {
            return None;
        }
        Some(self.enter(at, 0))
    }

    /// Forgets the key that would expire first over all shards.
    fn evict_oldest(&self) -> bool {
        let due = |shard: &usize| self.shards[*shard].lock().shard.next_due();
        let oldest = (0..self.shards.len()).filter(|shard| self.shards[*shard].lock().shard.len() > 0).min_by_key(due);
        oldest.is_some_and(|shard| {
            let mut local = self.shards[shard].lock();
            let evicted = local.shard.evict();
            self.spare.put(std::mem::take(&mut local.shard.room));
            evicted
        })
    }
}
