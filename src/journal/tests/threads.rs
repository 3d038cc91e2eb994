//! Threads that meet while the journal is being written.

use super::*;
use crate::testing::disk::Fault;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

pub(super) fn opened(storage: &Simulated) -> sync::DedupCache {
    <sync::DedupCache as Subject>::open(storage, Durability::Power).unwrap()
}

pub(super) fn time() -> Timestamp {
    Timestamp::from_millis(10_000)
}

/// A test that fails does not wait for ever.
pub(super) fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not come to that");
        thread::yield_now();
    }
}

#[test]
fn a_key_is_in_flight_until_it_is_recorded_and_then_a_duplicate() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("there", time()).unwrap();
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let insert = scope.spawn(|| cache.insert("a", time()));
        until(|| syncs.has_one());
        assert_eq!(cache.insert("a", time()), Ok(Verdict::InFlight));
        assert!(matches!(cache.claim("a", time()), Ok(Claimed::InFlight)));
        assert!(!cache.remove("a").unwrap(), "not committed yet");
        assert_eq!(cache.insert("there", time()), Ok(Verdict::Duplicate), "what is recorded waits for nothing");
        drop(syncs);
        assert_eq!(insert.join().unwrap(), Ok(Verdict::Fresh));
    });
    assert_eq!(cache.insert("a", time()), Ok(Verdict::Duplicate));
    cache.validate();
}

#[test]
fn a_claim_that_is_being_committed_is_in_flight_until_it_is_recorded() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let claim = |key: &str| match cache.claim(key, time()) {
        Ok(Claimed::Fresh(claim)) => claim,
        other => panic!("{other:?}"),
    };
    let (alone, in_batch) = (claim("a"), claim("b"));
    assert!(format!("{alone:?}").starts_with("Claim"));
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let commit = scope.spawn(move || alone.commit());
        until(|| syncs.has_one());
        let batch = scope.spawn(|| cache.commit_batch([in_batch]));
        until(|| cache.commits_begun() == 2);
        assert_eq!(cache.insert("a", time()), Ok(Verdict::InFlight));
        assert_eq!(cache.insert("b", time()), Ok(Verdict::InFlight));
        syncs.let_one_pass();
        assert_eq!(commit.join().unwrap(), Ok(()));
        assert_eq!(cache.insert("a", time()), Ok(Verdict::Duplicate));
        assert_eq!(cache.insert("b", time()), Ok(Verdict::InFlight), "that was another call");
        drop(syncs);
        assert_eq!(batch.join().unwrap().unwrap().all(), Ok(()));
    });
    assert_eq!(cache.insert("b", time()), Ok(Verdict::Duplicate));
    drop(claim("c"));
    drop(claim("c"));
    cache.validate();
}

#[test]
fn a_key_that_could_not_be_recorded_was_never_a_duplicate() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("there", time()).unwrap();
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let insert = scope.spawn(|| cache.insert("a", time()));
        until(|| syncs.has_one());
        assert_eq!(cache.insert("a", time()), Ok(Verdict::InFlight));
        storage.fail(storage.calls()..usize::MAX, Fault::Error(ErrorKind::Other));
        drop(syncs);
        assert!(matches!(insert.join().unwrap(), Err(Error::Journal(_))));
    });
    assert!(matches!(cache.insert("a", time()), Err(Error::Journal(_))), "neither duplicate nor recorded");
    assert_eq!((cache.len(), cache.stats().fresh), (1, 1));
    cache.validate();
}

#[test]
fn a_key_that_is_being_forgotten_is_in_flight_until_it_is() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("a", time()).unwrap();
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let forget = scope.spawn(|| cache.remove("a").unwrap());
        until(|| syncs.has_one());
        assert_eq!(cache.insert("a", time()), Ok(Verdict::InFlight));
        assert!(!cache.remove("a").unwrap(), "somebody is at it");
        drop(syncs);
        assert!(forget.join().unwrap());
    });
    assert_eq!(cache.insert("a", time()), Ok(Verdict::Fresh));
}

#[test]
fn commits_that_wait_share_one_sync() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let started = std::sync::Barrier::new(21);
    let before = thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let mut commits = vec![scope.spawn(|| cache.insert("first", time()))];
        until(|| syncs.has_one());
        let before = storage.calls();
        for number in 0..20 {
            let (cache, started) = (&cache, &started);
            commits.push(scope.spawn(move || {
                let Claimed::Fresh(claim) = cache.claim(format!("{number}"), time())? else { panic!("new") };
                started.wait();
                claim.commit().map(|()| Verdict::Fresh)
            }));
        }
        started.wait();
        // Those that have come by the time that the first sync is through are written together; how many, chance
        // decides, but with the gate shut most have.
        until(|| cache.commits_begun() == 20);
        drop(syncs);
        commits.into_iter().for_each(|commit| assert_eq!(commit.join().unwrap(), Ok(Verdict::Fresh)));
        before
    });
    // The first sync and its directory's; then an append and a sync for each group.
    let groups = (storage.calls() - before - 2) / 2;
    assert!((1..10).contains(&groups), "{groups} groups of 20 commits");
    drop(cache);
    assert_eq!(opened(&storage).len(), 21);
}

#[test]
fn a_batch_meets_its_own_keys_as_duplicates_and_anothers_as_in_flight() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let entry = |key: &str| (cache.fingerprint(key.as_bytes()), time());
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let other = scope.spawn(|| {
            let mut verdicts = Vec::new();
            cache.insert_batch(&[entry("a"), entry("a")], &mut verdicts).map(|()| verdicts)
        });
        until(|| syncs.has_one());
        let ours = scope.spawn(|| {
            let mut verdicts = Vec::new();
            cache.insert_batch(&[entry("a"), entry("b"), entry("b")], &mut verdicts).map(|()| verdicts)
        });
        until(|| cache.len() == 2); // it waits to be written
        drop(syncs);
        assert_eq!(other.join().unwrap(), Ok(vec![Verdict::Fresh, Verdict::Duplicate]));
        assert_eq!(ours.join().unwrap(), Ok(vec![Verdict::InFlight, Verdict::Fresh, Verdict::Duplicate]));
    });
    cache.validate();
}

/// Keys that no call has ever recorded, since the disk is full: whoever asks meanwhile must not be told of a duplicate.
fn ask_while_refused(refused: impl Fn(&sync::DedupCache)) {
    let storage = Simulated::default();
    let config = config().max_keys(100_000).shards(4);
    let cache = sync::DedupCache::open_in(|| Ok(storage.boxed()), config, Durability::Process.into()).unwrap();
    storage.fail(storage.calls()..usize::MAX, Fault::Short(ErrorKind::StorageFull));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut duplicates = 0;
            while !is_over.load(Relaxed) {
                duplicates +=
                    usize::from(cache.insert(Fingerprint::from_u128(KEYS - 1), time()) == Ok(Verdict::Duplicate));
            }
            duplicates
        });
        let result = catch_unwind(AssertUnwindSafe(|| (0..20).for_each(|_| refused(&cache))));
        is_over.store(true, Relaxed);
        assert_eq!((asking.join().unwrap(), result.is_ok()), (0, true));
    });
    assert!(cache.is_empty());
    cache.validate();
}

const KEYS: u128 = 20_000;

fn entries() -> Vec<(Fingerprint, Timestamp)> {
    (0..KEYS).map(|key| (Fingerprint::from_u128(key), time())).collect()
}

#[test]
fn a_batch_that_is_refused_was_never_a_duplicate() {
    let entries = entries();
    ask_while_refused(|cache| assert!(cache.insert_batch(&entries, &mut Vec::new()).is_err()));
}

#[test]
fn commits_that_are_refused_were_never_duplicates() {
    let entries = entries();
    ask_while_refused(|cache| {
        let claims = entries.iter().filter_map(|(key, time)| match cache.claim(key, *time) {
            Ok(Claimed::Fresh(claim)) => Some(claim),
            _ => None,
        });
        assert!(cache.commit_batch(claims.collect::<Vec<_>>()).is_err());
    });
}

#[test]
fn a_panic_among_claims_that_are_committed_commits_none() {
    fn promise<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let claims = ["a", "b"].map(|key| match cache.begin(key, 10_000) {
            Ok(Claimed::Fresh(claim)) => (key, claim),
            _ => panic!("new"),
        });
        let failing = claims.into_iter().map(|(key, claim)| {
            assert_ne!(key, "b", "the effect failed");
            claim
        });
        let committed = catch_unwind(AssertUnwindSafe(|| cache.finish_all(failing)));
        assert!(committed.is_err() && !cache.is_held("a"));
        drop(cache);
        assert!(!S::open(&storage, Durability::Process).unwrap().is_held("a"));
    }
    promise::<sync::DedupCache>();
    promise::<unsync::DedupCache>();
}
