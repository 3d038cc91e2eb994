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
        assert!(started.elapsed() < Duration::from_secs(20), "the condition never holds");
        thread::yield_now();
    }
}

#[test]
fn a_key_is_in_flight_until_it_is_in_the_journal_and_then_a_duplicate() {
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
        assert_eq!(cache.insert("there", time()), Ok(Verdict::Duplicate), "a committed key waits for no write");
        drop(syncs);
        assert_eq!(insert.join().unwrap(), Ok(Verdict::Fresh));
    });
    assert_eq!(cache.insert("a", time()), Ok(Verdict::Duplicate));
    cache.validate();
}

#[test]
fn a_claim_that_is_being_committed_is_in_flight_until_it_is_in_the_journal() {
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
        assert_eq!(cache.insert("b", time()), Ok(Verdict::InFlight), "it belongs to another call");
        drop(syncs);
        assert_eq!(batch.join().unwrap().unwrap().all(), Ok(()));
    });
    assert_eq!(cache.insert("b", time()), Ok(Verdict::Duplicate));
    drop(claim("c"));
    drop(claim("c"));
    cache.validate();
}

#[test]
fn a_key_that_could_not_be_appended_was_never_a_duplicate() {
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
    assert!(matches!(cache.insert("a", time()), Err(Error::Journal(_))), "neither a duplicate nor in the journal");
    assert_eq!((cache.len(), cache.stats().fresh), (1, 1));
    cache.validate();
}

#[test]
fn a_key_that_is_being_removed_is_in_flight_until_it_is_gone() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("a", time()).unwrap();
    thread::scope(|scope| {
        let syncs = storage.hold_syncs();
        let removal = scope.spawn(|| cache.remove("a").unwrap());
        until(|| syncs.has_one());
        assert_eq!(cache.insert("a", time()), Ok(Verdict::InFlight));
        assert!(!cache.remove("a").unwrap(), "another call is removing it");
        drop(syncs);
        assert!(removal.join().unwrap());
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
        // Commits that arrive during the first sync are written together. Their number depends on
        // chance, but while syncs are held, most of them have arrived.
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
fn a_batch_finds_its_own_keys_to_be_duplicates_and_those_of_another_call_in_flight() {
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

/// The disk is full, so no call ever commits these keys. Meanwhile, no other call may get a
/// duplicate.
fn insert_while_refused(refused: impl Fn(&sync::DedupCache)) {
    let storage = Simulated::default();
    let config = config().max_keys(100_000).shards(4);
    let cache = sync::DedupCache::open_in(|| Ok(storage.boxed()), config, Durability::Process.into()).unwrap();
    storage.fail(storage.calls()..usize::MAX, Fault::Short(ErrorKind::StorageFull));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let inserting = scope.spawn(|| {
            let mut duplicates = 0;
            while !is_over.load(Relaxed) {
                duplicates +=
                    usize::from(cache.insert(Fingerprint::from_u128(KEYS - 1), time()) == Ok(Verdict::Duplicate));
            }
            duplicates
        });
        let result = catch_unwind(AssertUnwindSafe(|| (0..20).for_each(|_| refused(&cache))));
        is_over.store(true, Relaxed);
        assert_eq!((inserting.join().unwrap(), result.is_ok()), (0, true));
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
    insert_while_refused(|cache| assert!(cache.insert_batch(&entries, &mut Vec::new()).is_err()));
}

#[test]
fn commits_that_are_refused_were_never_duplicates() {
    let entries = entries();
    insert_while_refused(|cache| {
        let claims = entries.iter().filter_map(|(key, time)| match cache.claim(key, *time) {
            Ok(Claimed::Fresh(claim)) => Some(claim),
            _ => None,
        });
        assert!(cache.commit_batch(claims.collect::<Vec<_>>()).is_err());
    });
}

#[test]
fn a_panic_among_the_claims_of_a_commit_batch_commits_none() {
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
