//! The conformance suite on the cache itself, with and without a journal.

use oncewheel::journal::Durability;
use oncewheel::testing::conformance::{self, Harness, Settings, block_on};
use oncewheel::{Clock, Config, Timestamp, sync::DedupCache};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Keeps a journal in directories below this one, if there is one.
struct Caches {
    journals: Option<(PathBuf, Durability)>,
    opened: AtomicUsize,
}

impl Harness for Caches {
    type Store = DedupCache;

    fn open(&self, settings: &Settings) -> DedupCache {
        let config = Config::new(settings.horizon).clock(Clock::Manual).max_keys(10_000);
        let config = settings.lease.map_or(config.clone(), |lease| config.lease(lease));
        let cache = match &self.journals {
            None => DedupCache::new(config).unwrap(),
            Some((dir, durability)) => {
                let number = self.opened.fetch_add(1, Relaxed).to_string();
                DedupCache::open(dir.join(number), config, *durability).unwrap()
            }
        };
        cache.advance(Timestamp::from_millis(1_795_302_291_895)).unwrap();
        cache
    }

    fn now(&self, store: &DedupCache) -> Timestamp {
        store.stats().now.unwrap()
    }

    fn pass(&self, store: &DedupCache, time: Duration) {
        store.advance(self.now(store).saturating_add(time)).unwrap();
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

#[test]
fn the_cache_in_memory_conforms() {
    conformance::run(&Caches { journals: None, opened: AtomicUsize::new(0) });
}

#[test]
fn the_cache_with_a_journal_conforms() {
    for durability in [Durability::Process, Durability::Power] {
        let dir = std::env::temp_dir().join(format!("oncewheel-conformance-{durability}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        conformance::run(&Caches { journals: Some((dir.clone(), durability)), opened: AtomicUsize::new(0) });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
