//! Everything that is compared. Each contender does the same work: it takes a stream of deliveries,
//! reports the duplicates, and removes keys that have left the window. Shared by the benchmarks and
//! by `tools/report`.

mod floor;
mod journaled;
mod oncewheel;
mod peers;
mod stream;
mod team;

#[allow(unused_imports, reason = "not every user of this module uses all of it")]
pub(crate) use journaled::{JOURNALED, Scratch};
pub(crate) use stream::{BATCH, Delivery, Stream, config};
pub(crate) use team::{Buffers, Team};

use ::oncewheel::Timestamp;
use std::time::Duration;

/// One cache, or one thread's handle to it.
pub(crate) trait Contender: Send {
    /// Moves the watermark: nothing older than this is delivered any more. Keys that it passes may
    /// expire.
    fn observe(&mut self, watermark: Timestamp);

    /// Checks and inserts deliveries. Returns how many were duplicates.
    fn take(&mut self, deliveries: &[Delivery]) -> usize;

    /// Keys held.
    fn held(&self) -> usize;

    /// The memory by the cache's own count, in bytes.
    fn memory_counted(&self) -> Option<usize> {
        None
    }

    /// The time to live, for caches that expire keys by the wall clock and not by the watermark.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }
}

/// Builds a cache for this many live keys, as one handle for each thread.
type Build = fn(live: usize, threads: usize) -> Vec<Box<dyn Contender>>;

pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) build: Build,
    /// Whether all handles are to one cache.
    shared: bool,
}

/// One thread.
pub(crate) const ENTRANTS: [Entrant; 11] = [
    Entrant::single("floor", |live, _| one(floor::Floor::new(live))),
    Entrant::single("oncewheel_unsync_batch", |live, _| one(oncewheel::UnsyncBatch::new(live))),
    Entrant::single("oncewheel_unsync", |live, _| one(oncewheel::Unsync::new(live))),
    Entrant::single("oncewheel_sync", |live, _| one(oncewheel::Sync::new(live))),
    Entrant::single("oncewheel_sync_batch", |live, _| one(oncewheel::SyncBatch::new(live))),
    Entrant::single("oncewheel_claim", |live, _| one(oncewheel::Claim::new(live))),
    Entrant::single("dashmap_wheel", |_, _| one(peers::DashMapWheel::new())),
    Entrant::single("hashmap_fifo", |_, _| one(peers::HashMapFifo::new())),
    Entrant::single("two_generations", |_, _| one(peers::TwoGenerations::new())),
    Entrant::single("moka_ttl", |live, _| one(peers::MokaTtl::new(live))),
    Entrant::single("quick_cache", |live, _| one(peers::QuickCache::new(live))),
];

/// Several threads, each with its own keys.
pub(crate) const THREADED: [Entrant; 5] = [
    Entrant { name: "oncewheel_sync", build: |live, threads| many(&oncewheel::Sync::new(live), threads), shared: true },
    Entrant {
        name: "oncewheel_sync_batch",
        build: |live, threads| many(&oncewheel::SyncBatch::new(live), threads),
        shared: true,
    },
    // A cache for each thread scales without limit, so this is the ceiling.
    Entrant {
        name: "oncewheel_unsync_each",
        build: |live, threads| (0..threads).flat_map(|_| one(oncewheel::UnsyncBatch::new(live / threads))).collect(),
        shared: false,
    },
    Entrant { name: "dashmap_wheel", build: |_, threads| many(&peers::DashMapWheel::new(), threads), shared: true },
    Entrant { name: "moka_ttl", build: |live, threads| many(&peers::MokaTtl::new(live), threads), shared: true },
];

impl Entrant {
    const fn single(name: &'static str, build: Build) -> Self {
        Self { name, build, shared: false }
    }

    /// Whether every duplicate must be found.
    pub(crate) fn is_oncewheel(&self) -> bool {
        self.name.starts_with("oncewheel")
    }

    /// Whether it reports duplicates at all.
    pub(crate) fn is_cache(&self) -> bool {
        self.name != "floor"
    }
}

fn one(contender: impl Contender + 'static) -> Vec<Box<dyn Contender>> {
    vec![Box::new(contender)]
}

fn many<C: Contender + Clone + 'static>(contender: &C, threads: usize) -> Vec<Box<dyn Contender>> {
    (0..threads).flat_map(|_| one(contender.clone())).collect()
}
