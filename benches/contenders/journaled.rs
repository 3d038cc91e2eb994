//! This crate with a journal, in a temporary directory of its own.

use super::oncewheel::{SyncBatch, UnsyncBatch};
use super::{Contender, Delivery, Entrant, config, one};
use ::oncewheel::journal::Durability;
use ::oncewheel::{Timestamp, sync, unsync};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One thread, in pairs: without a journal and with one.
pub(crate) const JOURNALED: [Entrant; 4] = [
    Entrant::single("oncewheel_unsync_batch", |live, _| one(UnsyncBatch::new(live))),
    Entrant::single("oncewheel_unsync_batch_process", |live, _| one(Journaled::unsync(live))),
    Entrant::single("oncewheel_sync_batch", |live, _| one(SyncBatch::new(live))),
    Entrant::single("oncewheel_sync_batch_process", |live, _| one(Journaled::sync(live))),
];

/// A directory that is removed when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// In the directory that `ONCEWHEEL_BENCH_DIR` names, or else the system's temporary directory.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let parent = std::env::var_os("ONCEWHEEL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = parent.join(format!("oncewheel-bench-{process}-{number}"));
        std::fs::create_dir_all(&dir).expect("a directory for the journal");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // the system may remove it later
    }
}

struct Journaled<C> {
    contender: C,
    _scratch: Scratch,
}

impl Journaled<UnsyncBatch> {
    fn unsync(live: usize) -> Self {
        let scratch = Scratch::new();
        let cache = unsync::DedupCache::open(scratch.path(), config(live), Durability::Process);
        Self { contender: UnsyncBatch::of(cache.expect("an empty directory")), _scratch: scratch }
    }
}

impl Journaled<SyncBatch> {
    fn sync(live: usize) -> Self {
        let scratch = Scratch::new();
        let cache = sync::DedupCache::open(scratch.path(), config(live), Durability::Process);
        Self { contender: SyncBatch::of(cache.expect("an empty directory")), _scratch: scratch }
    }
}

impl<C: Contender> Contender for Journaled<C> {
    fn observe(&mut self, watermark: Timestamp) {
        self.contender.observe(watermark);
    }

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        self.contender.take(deliveries)
    }

    fn held(&self) -> usize {
        self.contender.held()
    }

    fn memory_counted(&self) -> Option<usize> {
        self.contender.memory_counted()
    }
}
