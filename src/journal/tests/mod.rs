//! The promises of the journal, on a disk that crashes and fails on request.

mod crash;
mod damage;
mod faults;
mod format;
#[cfg(shuttle)]
mod interleavings;
mod reading;
mod removal;
#[cfg(shuttle)]
mod task_interleavings;
#[cfg(not(shuttle))]
mod tasks;
mod threads;
mod upkeep;

use super::{Cache, Durability, OpenOptions, Recovery, Writer};
use crate::engine::{Full, Held};
use crate::testing::disk::{Disk, Simulated};
use crate::{
    Claimed, Clock, Committed, Config, Error, Fingerprint, Horizon, MinMsgTime, Timestamp, Verdict, sync, unsync,
};
use std::time::Duration;

/// `max_retry + max_network` of these tests, in milliseconds.
const SPAN: u64 = 2_000;

fn config() -> Config {
    let horizon = Horizon::new(Duration::from_millis(SPAN - 500), Duration::from_millis(500));
    Config::new(horizon).clock(Clock::Manual).max_keys(64).shards(1)
}

/// Both fronts, as the journal's tests use them.
trait Subject: Sized {
    type Claim;

    fn open_on(
        storage: &Simulated,
        config: Config,
        durability: Durability,
        options: OpenOptions<'_>,
    ) -> Result<Self, Error>;
    fn put(&mut self, key: &str, time: u64) -> Result<Verdict, Error>;
    fn put_all(&mut self, entries: &[(Fingerprint, Timestamp)], verdicts: &mut Vec<Verdict>) -> Result<(), Error>;
    fn fingerprint_of(&self, key: &str) -> Fingerprint;
    fn begin(&mut self, key: &str, time: u64) -> Result<Claimed<Self::Claim>, Error>;
    fn finish(&mut self, claim: Self::Claim) -> Result<(), Error>;
    fn finish_all(&mut self, claims: impl IntoIterator<Item = Self::Claim>) -> Result<Committed, Error>;
    fn remove_key(&mut self, key: &str) -> Result<bool, Error>;
    fn follow(&mut self, min_msg_time: u64) -> Result<(), Error>;
    fn progress(&self) -> u64;
    fn is_held(&self, key: &str) -> bool;
    fn report(&self) -> &Recovery;
    fn failures(&self) -> u64;
    fn fresh(&self) -> u64;
    fn count(&self) -> usize;
    fn check(&self);
    fn with_writer<R>(&mut self, call: impl FnOnce(&mut Writer, &dyn Cache, u64) -> R) -> R;

    fn open(storage: &Simulated, durability: Durability) -> Result<Self, Error> {
        Self::open_on(storage, config(), durability, OpenOptions::new())
    }
}

macro_rules! subject {
    ($cache:ty, $claim:ty, $commit:expr) => {
        impl Subject for $cache {
            type Claim = $claim;

            fn open_on(
                storage: &Simulated,
                config: Config,
                durability: Durability,
                options: OpenOptions<'_>,
            ) -> Result<Self, Error> {
                Self::open_in(|| Ok(storage.boxed()), config, options.durability(durability))
            }
            fn put(&mut self, key: &str, time: u64) -> Result<Verdict, Error> {
                self.insert(key, Timestamp::from_millis(time))
            }
            fn put_all(
                &mut self,
                entries: &[(Fingerprint, Timestamp)],
                verdicts: &mut Vec<Verdict>,
            ) -> Result<(), Error> {
                self.insert_batch(entries, verdicts)
            }
            fn fingerprint_of(&self, key: &str) -> Fingerprint {
                self.fingerprint(key.as_bytes())
            }
            fn begin(&mut self, key: &str, time: u64) -> Result<Claimed<$claim>, Error> {
                self.claim(key, Timestamp::from_millis(time))
            }
            fn finish(&mut self, claim: $claim) -> Result<(), Error> {
                $commit(self, claim)
            }
            fn finish_all(&mut self, claims: impl IntoIterator<Item = $claim>) -> Result<Committed, Error> {
                self.commit_batch(claims)
            }
            fn remove_key(&mut self, key: &str) -> Result<bool, Error> {
                self.remove(key)
            }
            fn follow(&mut self, min_msg_time: u64) -> Result<(), Error> {
                self.observe(MinMsgTime::Known(Timestamp::from_millis(min_msg_time)))
            }
            fn progress(&self) -> u64 {
                self.watermark().map_or(0, Timestamp::as_millis)
            }
            fn is_held(&self, key: &str) -> bool {
                self.holds(self.fingerprint(key.as_bytes()))
            }
            fn report(&self) -> &Recovery {
                self.recovery().expect("opened with a journal")
            }
            fn failures(&self) -> u64 {
                self.stats().journal_failures
            }
            fn fresh(&self) -> u64 {
                self.stats().fresh
            }
            fn count(&self) -> usize {
                self.len()
            }
            fn check(&self) {
                self.validate();
            }
            fn with_writer<R>(&mut self, call: impl FnOnce(&mut Writer, &dyn Cache, u64) -> R) -> R {
                self.with_journal(call)
            }
        }
    };
}

subject!(unsync::DedupCache, unsync::Claim, unsync::DedupCache::commit);
subject!(sync::DedupCache, sync::Claim, |_: &mut sync::DedupCache, claim: sync::Claim| claim.commit());

/// A cache with fixed answers, which segments are rewritten for.
struct FixedCache {
    len: usize,
    held: Held,
    watermark: u64,
}

impl Cache for FixedCache {
    fn len(&self) -> usize {
        self.len
    }

    fn held(&self, _: Fingerprint) -> Held {
        self.held
    }

    fn watermark(&self) -> u64 {
        self.watermark
    }

    fn evicts(&self) -> bool {
        false
    }

    fn advance(&mut self, _: u64) {}

    fn restore(&mut self, _: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        Ok(())
    }

    fn remove(&mut self, _: Fingerprint) {}
}

/// Makes one test into two, one for each front.
macro_rules! on_both_fronts {
    ($($(#[$attribute:meta])* fn $name:ident<$subject:ident: Subject>() $body:block)*) => {
        $(
            mod $name {
                use super::*;

                fn promise<$subject: Subject>() $body

                $(#[$attribute])*
                #[test]
                fn unsync() {
                    promise::<crate::unsync::DedupCache>();
                }

                $(#[$attribute])*
                #[test]
                fn sync() {
                    promise::<crate::sync::DedupCache>();
                }
            }
        )*
    };
}
use on_both_fronts;

/// The segments' names, the oldest first.
fn segments(disk: &Disk) -> Vec<String> {
    disk.contents().into_keys().filter(|name| name.ends_with(".segment")).collect()
}

on_both_fronts! {
    fn memory_only_keeps_no_journal<S: Subject>() {
        // `open` needs no storage.
        let dir = std::env::temp_dir().join(format!("oncewheel-memory-is-not-made-{}", std::process::id()));
        let cache = unsync::DedupCache::open(&dir, config(), Durability::Memory).unwrap();
        assert!(cache.recovery().is_none() && !dir.exists());
        let cache = sync::DedupCache::open(&dir, config(), Durability::Memory).unwrap();
        assert!(cache.recovery().is_none() && !dir.exists());
    }

    fn a_changed_horizon_applies_to_the_keys_in_the_journal<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        drop(cache);
        let longer = Config { horizon: Horizon::new(Duration::from_millis(10 * SPAN), Duration::ZERO), ..config() };
        let mut cache = S::open_on(&storage, longer, Durability::Process, OpenOptions::new()).unwrap();
        cache.follow(10_000 + 10 * SPAN).unwrap();
        assert!(cache.is_held("a"));
        drop(cache);
        let cache = S::open(&storage, Durability::Process).unwrap();
        assert!(!cache.is_held("a"), "expired under the shorter horizon");
        assert_eq!(cache.progress(), 10_000 + 10 * SPAN);
    }

    fn an_opening_with_more_keys_than_max_keys_is_refused_and_loses_none<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for key in ["a", "b", "c"] {
            let _ = cache.put(key, 10_000).unwrap();
        }
        assert_eq!(cache.remove_key("c"), Ok(true));
        drop(cache);
        let open = |max_keys| {
            S::open_on(&storage, config().max_keys(max_keys), Durability::Process, OpenOptions::new())
        };
        let Some(Error::Journal(error)) = open(1).err() else { panic!("two keys") };
        assert_eq!(error.kind(), super::super::ErrorKind::TooManyKeys);
        let cache = open(2).unwrap(); // a removed key takes no capacity
        assert_eq!((cache.count(), cache.report().keys_restored), (2, 2));
        cache.check();
    }

    fn progress_is_reported_up_to_the_end<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, config().max_keys(100_000), Durability::Process, OpenOptions::new()).unwrap();
        let entries: Vec<_> = (0..50_000).map(|key| (Fingerprint::from_u128(key), Timestamp::from_millis(1))).collect();
        cache.put_all(&entries, &mut Vec::new()).unwrap();
        drop(cache);
        let mut seen = Vec::new();
        let options = OpenOptions::new().on_progress(|progress| seen.push(progress));
        let cache = S::open_on(&storage, config().max_keys(100_000), Durability::Process, options).unwrap();
        assert_eq!(cache.report().keys_restored, 50_000);
        drop(cache);
        assert!(seen.len() > 3 && seen.is_sorted_by_key(|progress| progress.bytes_read));
        let last = seen.last().unwrap();
        assert_eq!((last.bytes_read, last.keys_read), (last.bytes_in_all, 50_000));
    }

    fn the_secret_is_made_once_and_another_is_refused<S: Subject>() {
        use super::super::ErrorKind;
        let problem = |opened: Result<S, Error>| match opened.err() {
            Some(Error::Journal(error)) => error.kind(),
            other => panic!("{other:?}"),
        };
        let storage = Simulated::default();
        let open = |secret| {
            S::open_on(&storage, Config { secret, ..config() }, Durability::Process, OpenOptions::new())
        };
        let mut cache = open(Some([7; 16])).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        drop(cache);
        assert_eq!(problem(open(Some([8; 16]))), ErrorKind::SecretMismatch);
        assert!(open(None).unwrap().is_held("a"));
        // The file is lost. Only the same secret can replace it.
        let mut files = storage.disk().contents();
        files.remove("secret");
        let storage = Simulated::on(Disk::of(files));
        let open = |secret| {
            S::open_on(&storage, Config { secret, ..config() }, Durability::Process, OpenOptions::new())
        };
        assert_eq!(problem(open(None)), ErrorKind::SecretMissing);
        assert_eq!(problem(open(Some([8; 16]))), ErrorKind::SecretMismatch);
        assert!(open(Some([7; 16])).unwrap().is_held("a"));
        assert!(open(None).unwrap().is_held("a"), "the secret was stored again");
    }
}
