//! This crate, through each of its calls.

use super::{BATCH, Contender, Delivery, config};
use oncewheel::{Claimed, MinMsgTime, Timestamp, Verdict, sync, unsync};

const CAPACITY: &str = "capacity for all live keys";

pub(super) struct Unsync(unsync::DedupCache);

pub(super) struct UnsyncBatch {
    cache: unsync::DedupCache,
    verdicts: Vec<Verdict>,
}

pub(super) struct Claim(unsync::DedupCache);

#[derive(Clone)]
pub(super) struct Sync(sync::DedupCache);

#[derive(Clone)]
pub(super) struct SyncBatch {
    cache: sync::DedupCache,
    verdicts: Vec<Verdict>,
}

impl Unsync {
    pub(super) fn new(live: usize) -> Self {
        Self(unsync_cache(live))
    }
}

impl UnsyncBatch {
    pub(super) fn new(live: usize) -> Self {
        Self::of(unsync_cache(live))
    }

    pub(super) fn of(cache: unsync::DedupCache) -> Self {
        Self { cache, verdicts: Vec::with_capacity(BATCH) }
    }
}

impl Claim {
    pub(super) fn new(live: usize) -> Self {
        Self(unsync_cache(live))
    }
}

impl Sync {
    pub(super) fn new(live: usize) -> Self {
        Self(sync_cache(live))
    }
}

impl SyncBatch {
    pub(super) fn new(live: usize) -> Self {
        Self::of(sync_cache(live))
    }

    pub(super) fn of(cache: sync::DedupCache) -> Self {
        Self { cache, verdicts: Vec::with_capacity(BATCH) }
    }
}

fn unsync_cache(live: usize) -> unsync::DedupCache {
    unsync::DedupCache::new(config(live)).expect("a valid configuration")
}

fn sync_cache(live: usize) -> sync::DedupCache {
    sync::DedupCache::new(config(live)).expect("a valid configuration")
}

fn duplicates(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| **verdict == Verdict::Duplicate).count()
}

/// The methods that do not differ. `take` does.
macro_rules! contender {
    ($type:ty, $($cache:tt).+, |$self:ident, $deliveries:ident| $take:expr) => {
        impl Contender for $type {
            fn observe(&mut self, watermark: Timestamp) {
                self.$($cache).+.observe(MinMsgTime::Known(watermark)).expect("a manual clock refuses nothing");
            }

            fn take(&mut $self, $deliveries: &[Delivery]) -> usize {
                $take
            }

            fn held(&self) -> usize {
                self.$($cache).+.len()
            }

            fn memory_counted(&self) -> Option<usize> {
                Some(self.$($cache).+.stats().memory_bytes)
            }
        }
    };
}

contender!(Unsync, 0, |self, deliveries| {
    let insert = |(key, time): &Delivery| self.0.insert(key, *time).expect(CAPACITY) == Verdict::Duplicate;
    deliveries.iter().map(insert).map(usize::from).sum()
});

contender!(UnsyncBatch, cache, |self, deliveries| {
    self.cache.insert_batch(deliveries, &mut self.verdicts).expect(CAPACITY);
    duplicates(&self.verdicts)
});

contender!(Claim, 0, |self, deliveries| {
    let mut duplicates = 0;
    for (key, time) in deliveries {
        match self.0.claim(key, *time).expect(CAPACITY) {
            Claimed::Fresh(claim) => self.0.commit(claim).expect("claimed just now"),
            Claimed::Duplicate => duplicates += 1,
            Claimed::InFlight | Claimed::TooOld => unreachable!("no claim is open, nothing is late"),
        }
    }
    duplicates
});

contender!(Sync, 0, |self, deliveries| {
    let insert = |(key, time): &Delivery| self.0.insert(key, *time).expect(CAPACITY) == Verdict::Duplicate;
    deliveries.iter().map(insert).map(usize::from).sum()
});

contender!(SyncBatch, cache, |self, deliveries| {
    self.cache.insert_batch(deliveries, &mut self.verdicts).expect(CAPACITY);
    duplicates(&self.verdicts)
});
