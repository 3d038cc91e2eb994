//! The conformance suite on the cache itself, with and without a journal.

use oncewheel::journal::Durability;
use oncewheel::testing::conformance::{self, Harness, Settings, block_on};
use oncewheel::{
    ClaimStore, Claimed, Clock, Config, Error, Guarantees, MinMsgTime, Timestamp,
    sync::{self, DedupCache},
};
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

/// A store that breaks one promise.
struct Broken {
    cache: DedupCache,
    how: Break,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    CommitsBeforeTheEffect,
    CommitsNothing,
    KeepsAbortedClaims,
    AcceptsLateCommits,
    ExpiresEarly,
    ExpiresLate,
    CallsTooOldFresh,
    BelievesAnyWatermark,
    RemovesNothing,
    ComparesTheFirstBytes,
    TakesUnknownTimesFor1970,
}

impl Break {
    const ALL: [Self; 11] = [
        Self::CommitsBeforeTheEffect,
        Self::CommitsNothing,
        Self::KeepsAbortedClaims,
        Self::AcceptsLateCommits,
        Self::ExpiresEarly,
        Self::ExpiresLate,
        Self::CallsTooOldFresh,
        Self::BelievesAnyWatermark,
        Self::RemovesNothing,
        Self::ComparesTheFirstBytes,
        Self::TakesUnknownTimesFor1970,
    ];
}

impl ClaimStore for Broken {
    type Claim = sync::Claim;
    type Error = Error;

    async fn claim(&self, key: &[u8], msg_time: Option<Timestamp>) -> Result<Claimed<sync::Claim>, Error> {
        let key = if self.how == Break::ComparesTheFirstBytes { &key[..key.len().min(1)] } else { key };
        let unknown = (self.how == Break::TakesUnknownTimesFor1970).then_some(Timestamp::from_millis(0));
        let claimed = ClaimStore::claim(&self.cache, key, msg_time.or(unknown)).await?;
        match (self.how, claimed) {
            (Break::CommitsBeforeTheEffect, Claimed::Fresh(claim)) => {
                claim.commit()?;
                self.cache.claim(format!("{key:?}, again"), msg_time)
            }
            (Break::CallsTooOldFresh, Claimed::TooOld) => self.cache.claim(key, None),
            (_, claimed) => Ok(claimed),
        }
    }

    async fn commit(&self, claim: sync::Claim) -> Result<(), Error> {
        if self.how == Break::CommitsNothing {
            return Ok(());
        }
        match claim.commit() {
            Err(Error::ClaimLost) if self.how == Break::AcceptsLateCommits => Ok(()),
            committed => committed,
        }
    }

    async fn abort(&self, claim: sync::Claim) -> Result<(), Error> {
        if self.how == Break::KeepsAbortedClaims {
            std::mem::forget(claim);
        }
        Ok(())
    }

    async fn observe(&self, min_msg_time: MinMsgTime) -> Result<(), Error> {
        let shifted = match (self.how, min_msg_time) {
            (Break::ExpiresEarly, MinMsgTime::Known(time)) => time.saturating_add(Duration::from_millis(1)),
            (Break::ExpiresLate, MinMsgTime::Known(time)) => time.saturating_sub(Duration::from_secs(100)),
            (_, MinMsgTime::Known(time)) => time,
            (_, other) => return self.cache.observe(other),
        };
        match self.cache.observe(MinMsgTime::Known(shifted)) {
            Err(Error::WatermarkAhead { .. }) if self.how == Break::BelievesAnyWatermark => Ok(()),
            observed => observed,
        }
    }

    async fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        if self.how == Break::RemovesNothing { Ok(true) } else { self.cache.remove(key) }
    }

    fn guarantees(&self) -> Guarantees {
        self.cache.guarantees()
    }
}

struct BrokenStores(Break);

impl Harness for BrokenStores {
    type Store = Broken;

    fn open(&self, settings: &Settings) -> Broken {
        let caches = Caches { journals: None, opened: AtomicUsize::new(0) };
        Broken { cache: caches.open(settings), how: self.0 }
    }

    fn now(&self, store: &Broken) -> Timestamp {
        store.cache.stats().now.unwrap()
    }

    fn pass(&self, store: &Broken, time: Duration) {
        store.cache.advance(self.now(store).saturating_add(time)).unwrap();
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

#[test]
fn the_suite_sees_each_broken_promise() {
    for how in Break::ALL {
        let seen = std::panic::catch_unwind(|| conformance::run(&BrokenStores(how)));
        assert!(seen.is_err(), "{how:?} is not seen");
    }
}
