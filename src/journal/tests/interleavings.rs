//! Threads that meet over a journal: see `crate::testing::interleavings`.

use super::*;
use crate::journal;
use crate::testing::disk::Fault;
use crate::testing::interleavings::{answer, explore};
use shuttle::thread;
use std::io::ErrorKind;

pub(super) fn opened(storage: &Simulated) -> sync::DedupCache {
    let config = config().shards(2).secret([7; 16]);
    sync::DedupCache::open_in(|| Ok(storage.boxed()), config, Durability::Power.into()).unwrap()
}

/// With an active segment, so that a write is one append and one sync.
pub(super) fn begun() -> (Simulated, sync::DedupCache) {
    let storage = Simulated::default();
    let cache = opened(&storage);
    assert_eq!(insert(&cache, "there"), "fresh");
    (storage, cache)
}

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn insert(cache: &sync::DedupCache, key: &str) -> &'static str {
    answer(&cache.insert(key, at(10_000)))
}

pub(super) fn is_held(cache: &sync::DedupCache, key: &str) -> bool {
    cache.holds(cache.fingerprint(key.as_bytes()))
}

/// Between calls, a later process finds what is in memory now, after a crash of this process or a
/// loss of power.
pub(super) fn assert_survives(storage: &Simulated, cache: &sync::DedupCache, keys: &[&str]) {
    cache.validate();
    let (images, all) = storage.disk().after_loss_of_power(64);
    assert!(all, "few writes are pending between calls");
    for image in images.into_iter().chain([storage.disk().at_rest()]) {
        let after = opened(&Simulated::on(image));
        for key in keys {
            assert_eq!(is_held(&after, key), is_held(cache, key), "{key}: in the later process, in this one");
        }
        assert_eq!(after.watermark(), cache.watermark());
    }
}

#[test]
fn a_key_is_in_flight_until_no_loss_of_power_can_undo_it() {
    let allowed = ["fresh, in flight", "fresh, duplicate", "in flight, fresh", "duplicate, fresh"];
    explore(allowed, || {
        let (storage, cache) = begun();
        let see = || {
            let outcome = insert(&cache, "a");
            if outcome == "duplicate" {
                for image in storage.disk().after_loss_of_power(64).0 {
                    assert!(is_held(&opened(&Simulated::on(image)), "a"), "a duplicate of a key that may be lost");
                }
            }
            outcome
        };
        let outcome = thread::scope(|scope| {
            scope.spawn(|| assert_eq!(insert(&cache, "b"), "fresh"));
            let other = scope.spawn(see);
            let first = see();
            format!("{first}, {}", other.join().unwrap())
        });
        assert_survives(&storage, &cache, &["a", "b", "there"]);
        outcome
    });
}

#[test]
fn a_batch_and_a_single_call_insert_each_key_once() {
    explore(["fid: f", "fdd: f", "ffd: i", "ffd: d"], || {
        let (storage, cache) = begun();
        let entries = ["a", "b", "a"].map(|key| (cache.fingerprint(key.as_bytes()), at(10_000)));
        let outcome = thread::scope(|scope| {
            let single = scope.spawn(|| &insert(&cache, "b")[..1]);
            let mut verdicts = Vec::new();
            cache.insert_batch(&entries, &mut verdicts).unwrap();
            let batch: String = verdicts.into_iter().map(|verdict| &answer(&Ok(verdict))[..1]).collect();
            format!("{batch}: {}", single.join().unwrap())
        });
        assert_survives(&storage, &cache, &["a", "b"]);
        outcome
    });
}

#[test]
fn waiting_calls_share_a_write_and_none_is_left_waiting() {
    // A group of three is the smallest in which one call may be left waiting: the first to wake
    // writes, and wakes the next.
    explore(["2 writes", "3 writes", "4 writes"], || {
        let (storage, cache) = begun();
        let before = storage.calls();
        let keys = ["a", "b", "c", "d"];
        thread::scope(|scope| {
            let cache = &cache;
            for key in keys {
                scope.spawn(move || assert_eq!(insert(cache, key), "fresh"));
            }
        });
        let writes = (storage.calls() - before) / 2;
        assert_survives(&storage, &cache, &keys);
        format!("{writes} writes")
    });
}

/// Three threads insert, and `count` calls to the disk fail, from number `from` on. Each thread
/// gets a true result. A fourth thread gets no duplicate of a key whose insert then fails.
fn while_the_disk_fails(from: usize, count: usize) -> String {
    let (storage, cache) = begun();
    let next = storage.calls();
    storage.fail(next + from..(next + from).saturating_add(count), Fault::Error(ErrorKind::Other));
    let keys = ["a", "b", "c"];
    let (results, seen) = thread::scope(|scope| {
        let cache = &cache;
        let inserts = keys.map(|key| scope.spawn(move || cache.insert(key, at(10_000))));
        let seen = [(); 2].map(|()| matches!(cache.claim("a", at(10_000)), Ok(Claimed::Duplicate)));
        (inserts.map(|insert| insert.join().unwrap()), seen)
    });
    assert!(!seen.contains(&true) || results[0].is_ok(), "a duplicate of a key that was refused");
    assert!(seen.is_sorted(), "a duplicate stays one");
    cache.validate();
    let after = opened(&Simulated::on(storage.disk().at_rest()));
    for (key, result) in keys.into_iter().zip(&results) {
        match result {
            Ok(verdict) => {
                // If the fourth thread holds a claim on `a`, the insert of `a` is in flight.
                let is_fresh = *verdict == Verdict::Fresh;
                assert!(is_fresh || (key == "a" && *verdict == Verdict::InFlight), "{key}: {verdict:?}");
                assert_eq!((is_held(&cache, key), is_held(&after, key)), (is_fresh, is_fresh), "{key}");
            }
            Err(Error::Journal(error)) => {
                assert!(!is_held(&cache, key), "{key} was refused");
                assert!(
                    !is_held(&after, key) || error.kind() == journal::ErrorKind::Poisoned,
                    "{key} was refused: {error}"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
    format!("{} refused", results.iter().filter(|result| result.is_err()).count())
}

#[test]
fn a_failed_append_is_an_error_of_all_calls_that_waited_for_it_and_of_no_others() {
    // Calls that arrive during the first write share a write, if there are two of them.
    explore(["1 refused", "2 refused"], || while_the_disk_fails(2, 1));
}

#[test]
fn the_first_call_writes_alone_and_is_refused_alone() {
    explore(["1 refused"], || while_the_disk_fails(0, 1));
}

#[test]
fn a_failed_sync_loses_no_key() {
    explore(["0 refused"], || while_the_disk_fails(1, 1));
}

#[test]
fn a_permanent_failure_leaves_no_call_waiting() {
    // All are refused, except one that may find its key in flight.
    explore(["2 refused", "3 refused"], || while_the_disk_fails(1, usize::MAX));
}

#[test]
fn a_permanent_failure_after_a_write_leaves_no_call_waiting() {
    explore(["1 refused", "2 refused"], || while_the_disk_fails(2, usize::MAX));
}

#[test]
fn a_key_whose_commit_was_refused_is_fresh_again_and_was_never_a_duplicate() {
    explore(["in flight", "fresh"], || {
        let (storage, cache) = begun();
        let Ok(Claimed::Fresh(refused)) = cache.claim("a", at(10_000)) else { panic!("new") };
        storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(ErrorKind::StorageFull));
        let outcome = thread::scope(|scope| {
            let next = scope.spawn(|| match cache.claim("a", at(10_000)).unwrap() {
                Claimed::Fresh(claim) => {
                    claim.commit().unwrap();
                    "fresh"
                }
                Claimed::InFlight => "in flight",
                other => panic!("{other:?}"),
            });
            assert!(matches!(refused.commit(), Err(Error::Journal(_))));
            next.join().unwrap()
        });
        assert_eq!(is_held(&cache, "a"), outcome == "fresh");
        assert_survives(&storage, &cache, &["a", "there"]);
        outcome.into()
    });
}

#[test]
fn the_journal_keeps_the_order_of_changes_to_one_key() {
    // A key is removed and inserted again. The last change counts, in memory and on disk.
    let allowed = [
        "duplicate, duplicate",
        "duplicate, in flight",
        "duplicate, fresh",
        "in flight, in flight",
        "in flight, fresh",
        "fresh, duplicate",
    ];
    explore(allowed, || {
        let (storage, cache) = begun();
        assert_eq!(insert(&cache, "a"), "fresh");
        let outcome = thread::scope(|scope| {
            scope.spawn(|| assert!(cache.remove("a").unwrap()));
            scope.spawn(|| assert_eq!(insert(&cache, "b"), "fresh"));
            let first = insert(&cache, "a");
            format!("{first}, {}", insert(&cache, "a"))
        });
        assert_survives(&storage, &cache, &["a", "b"]);
        outcome
    });
}

#[test]
fn segments_are_rewritten_while_keys_are_removed_claimed_and_committed() {
    explore(["in flight", "duplicate", "fresh"], || {
        let (storage, cache) = begun();
        assert_eq!((insert(&cache, "a"), insert(&cache, "b")), ("fresh", "fresh"));
        let rewrite = || {
            cache.clone().with_journal(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        };
        rewrite(); // seals
        let outcome = thread::scope(|scope| {
            scope.spawn(rewrite);
            scope.spawn(|| assert!(cache.remove("a").unwrap()));
            let Ok(Claimed::Fresh(claim)) = cache.claim("c", at(10_000)) else { panic!("new") };
            claim.commit().unwrap();
            insert(&cache, "a")
        });
        assert_eq!(segments(&storage.disk()).len(), 1, "the sealed one is rewritten");
        assert_survives(&storage, &cache, &["a", "b", "c", "there"]);
        outcome.into()
    });
}

#[test]
fn the_watermark_is_appended_and_segments_are_removed_while_keys_arrive() {
    explore(["fresh, duplicate", "duplicate, fresh", "fresh, in flight", "in flight, fresh"], || {
        let storage = Simulated::default();
        let cache = opened(&storage);
        assert_eq!(answer(&cache.insert("expires", at(5_000))), "fresh");
        cache.clone().with_journal(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        let observe = |millis| cache.observe(MinMsgTime::Known(at(millis))).unwrap();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| observe(9_000));
            scope.spawn(|| observe(9_500));
            let other = scope.spawn(|| insert(&cache, "a"));
            let first = insert(&cache, "a");
            format!("{first}, {}", other.join().unwrap())
        });
        assert_eq!(cache.watermark(), Some(at(9_500)));
        assert_survives(&storage, &cache, &["a"]);
        observe(9_501); // a call that found the writer busy has left it to this one
        assert_eq!(segments(&storage.disk()).len(), 1, "the segment of the expired key is removed");
        assert_eq!(cache.stats().journal_failures, 0);
        outcome
    });
}
