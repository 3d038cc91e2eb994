//! Claims: only a committed key is a duplicate. Of all concurrent deliveries of a key, one is
//! fresh.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Claimed, Clock, Config, Error, Horizon, Timestamp, Verdict, sync};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn config() -> Config {
    let horizon = Horizon::new(Duration::from_millis(1000), Duration::ZERO);
    Config::new(horizon).clock(Clock::Manual).max_keys(100_000)
}

fn with_lease(millis: u64) -> Config {
    config().lease(Duration::from_millis(millis))
}

fn fresh<C: Front>(cache: &mut C, key: &str, time: u64) -> C::Claim {
    match cache.claim(key, Some(time)) {
        Ok(Claimed::Fresh(claim)) => claim,
        _ => panic!("{key} is not fresh"),
    }
}

fn is_in_flight<C: Front>(cache: &mut C, key: &str, time: u64) -> bool {
    matches!(cache.claim(key, Some(time)), Ok(Claimed::InFlight))
}

on_both_fronts! {
    fn a_claimed_key_is_in_flight_until_it_is_committed_or_aborted<C: Front>() {
        let mut cache = C::new(config()).unwrap();
        let claim = fresh(&mut cache, "a", 5);
        assert!(is_in_flight(&mut cache, "a", 5));
        assert_eq!(cache.insert("a", Some(5)), Ok(Verdict::InFlight));
        assert!(!cache.remove("a"), "a claim is not a committed key");
        cache.abort(claim);
        let claim = fresh(&mut cache, "a", 5);
        cache.commit(claim).unwrap();
        assert!(matches!(cache.claim("a", Some(5)), Ok(Claimed::Duplicate)));
        assert_eq!(cache.stats().fresh, 2);
        cache.validate();
    }

    fn a_claim_that_is_committed_after_its_deadline_is_held_until_the_next_slot_and_harms_nothing<C: Front>() {
        let mut cache = C::new(config()).unwrap();
        cache.observe_known(10_000).unwrap();
        let claim = fresh(&mut cache, "slow", 10_000);
        cache.observe_known(1_000_000).unwrap();
        assert!(is_in_flight(&mut cache, "slow", 10_000), "a claim does not expire with the watermark");
        cache.commit(claim).unwrap();
        assert_eq!(cache.insert("slow", Some(10_000)), Ok(Verdict::Duplicate));
        cache.observe_known(1_000_001).unwrap();
        assert_eq!(cache.len(), 0);
        cache.validate();
    }

    fn a_handler_that_fails_or_panics_leaves_the_message_to_be_processed_again<C: Front>() {
        let mut cache = C::new(config()).unwrap();
        assert_eq!(cache.process_once("a", 5, || Err(())), Ok(Claimed::Fresh(Err(()))));
        let panicked = catch_unwind(AssertUnwindSafe(|| cache.process_once("a", 5, || panic!("handler"))));
        assert!(panicked.is_err());
        assert_eq!(cache.stats().claims_open, 0);
        assert_eq!(cache.process_once("a", 5, || Ok(())), Ok(Claimed::Fresh(Ok(()))));
        assert_eq!(cache.process_once("a", 5, || panic!("a duplicate is not processed")), Ok(Claimed::Duplicate));
        cache.validate();
    }

    fn a_dropped_claim_is_released_and_several_can_be_open<C: Front>() {
        let mut cache = C::new(config().max_keys(3)).unwrap();
        let (first, second, third) = (fresh(&mut cache, "a", 5), fresh(&mut cache, "b", 5), fresh(&mut cache, "c", 5));
        assert_eq!(cache.stats().claims_open, 3);
        drop(second);
        assert_eq!(cache.stats().claims_open, 2);
        assert_eq!(cache.insert("d", Some(5)), Ok(Verdict::Fresh), "the quota of the dropped claim is free");
        assert!(matches!(cache.claim("b", Some(5)), Err(Error::Full { .. })));
        drop(third);
        let again = fresh(&mut cache, "c", 5);
        cache.commit(first).unwrap();
        cache.commit(again).unwrap();
        assert_eq!(cache.stats().claims_open, 0);
        cache.validate();
    }

    fn dropping_a_lost_claim_changes_nothing<C: Front>() {
        let mut cache = C::new(with_lease(100)).unwrap();
        cache.advance(1000);
        let slow = fresh(&mut cache, "a", 1000);
        cache.advance(2000);
        let second = fresh(&mut cache, "a", 1000);
        drop(slow);
        assert_eq!(cache.stats().claims_open, 1);
        assert!(is_in_flight(&mut cache, "a", 1000), "the second claim is open");
        cache.commit(second).unwrap();
        assert_eq!(cache.insert("a", Some(1000)), Ok(Verdict::Duplicate));
        cache.validate();
    }

    fn a_claim_of_another_cache_commits_nothing_and_is_released<C: Front>() {
        let (mut cache, mut other) = (C::new(config()).unwrap(), C::new(config()).unwrap());
        let claim = fresh(&mut other, "a", 5);
        let own = fresh(&mut cache, "b", 5);
        let committed = cache.commit_batch(vec![claim, own]).unwrap();
        assert_eq!((committed.lost(), committed.contains(0), committed.contains(1)), (&[0][..], false, true));
        assert_eq!(committed.all(), Err(Error::ClaimLost));
        assert_eq!((cache.stats().claims_open, other.stats().claims_open), (0, 0));
        assert_eq!(cache.insert("a", Some(5)), Ok(Verdict::Fresh));
        assert_eq!(cache.insert("b", Some(5)), Ok(Verdict::Duplicate));
        cache.validate();
        other.validate();
    }

    fn without_a_lease_a_leaked_claim_is_never_taken_over<C: Front>() {
        let mut cache = C::new(config()).unwrap();
        std::mem::forget(fresh(&mut cache, "a", 5));
        cache.advance(u64::MAX / 2);
        assert!(is_in_flight(&mut cache, "a", u64::MAX / 2));
    }

    fn a_claim_whose_lease_has_expired_is_taken_over_and_its_late_commit_is_refused<C: Front>() {
        let mut cache = C::new(with_lease(100)).unwrap();
        cache.advance(1000);
        let slow = fresh(&mut cache, "a", 1000);
        cache.advance(1100);
        assert!(is_in_flight(&mut cache, "a", 1000), "the lease has not expired yet");
        cache.advance(1101);
        let second = fresh(&mut cache, "a", 1000);
        assert_eq!(cache.commit(slow), Err(Error::ClaimLost));
        assert!(is_in_flight(&mut cache, "a", 1000), "the late commit changed nothing");
        cache.commit(second).unwrap();
        assert_eq!(cache.insert("a", Some(1000)), Ok(Verdict::Duplicate));
        cache.validate();
    }

    fn a_late_abort_does_not_end_the_claim_of_another<C: Front>() {
        let mut cache = C::new(with_lease(100)).unwrap();
        cache.advance(1000);
        let slow = fresh(&mut cache, "a", 1000);
        cache.advance(2000);
        let _second = fresh(&mut cache, "a", 1000);
        cache.abort(slow);
        assert!(is_in_flight(&mut cache, "a", 1000));
        cache.validate();
    }

    fn a_claim_whose_lease_has_expired_can_be_committed_until_it_is_taken_over<C: Front>() {
        let mut cache = C::new(with_lease(100)).unwrap();
        cache.advance(1000);
        let slow = fresh(&mut cache, "a", 1000);
        cache.advance(5000);
        assert_eq!(cache.commit(slow), Ok(()));
    }

    fn the_claim_of_another_cache_commits_nothing<C: Front>() {
        let config = config().secret([1; 16]);
        let (mut cache, mut other) = (C::new(config.clone()).unwrap(), C::new(config).unwrap());
        let (mine, theirs) = (fresh(&mut cache, "a", 5), fresh(&mut other, "a", 5));
        other.commit(theirs).unwrap();
        assert_eq!((cache.len(), other.len()), (0, 1));
        cache.abort(mine);
        assert_eq!(cache.insert("a", Some(5)), Ok(Verdict::Fresh));
    }

    fn a_lease_begins_when_the_time_is_first_known<C: Front>() {
        let mut cache = C::new(with_lease(100)).unwrap();
        let claim = fresh(&mut cache, "a", 1000);
        cache.advance(1_000_000);
        assert!(is_in_flight(&mut cache, "a", 1000));
        cache.advance(1_000_101);
        let _second = fresh(&mut cache, "a", 1000);
        assert_eq!(cache.commit(claim), Err(Error::ClaimLost));
    }

    fn abandoned_claims_return_their_quota_once_no_copy_can_arrive<C: Front>() {
        let mut cache = C::new(with_lease(100).max_keys(10)).unwrap();
        cache.advance(1000);
        for number in 0..10 {
            std::mem::forget(fresh(&mut cache, &number.to_string(), 1000));
        }
        cache.advance(1_000_000);
        assert!(matches!(cache.insert("b", Some(1_000_000)), Err(Error::Full { .. })), "their copies can still arrive");
        cache.observe_known(1_000_000).unwrap();
        assert_eq!(cache.insert("b", Some(1_000_000)), Ok(Verdict::Fresh));
        cache.validate();
    }

    fn many_abandoned_claims_are_swept_while_others_are_opened<C: Front>() {
        let mut cache = C::new(with_lease(100).max_keys(20_000)).unwrap();
        for round in 0..50u64 {
            let time = 10_000 * (round + 1);
            cache.advance(time);
            cache.observe_known(time).unwrap();
            for number in 0..1000 {
                std::mem::forget(fresh(&mut cache, &format!("{round}/{number}"), time));
            }
            assert!(cache.stats().claims_open <= 4_000, "{}", cache.stats().claims_open);
        }
        cache.validate();
    }
}

/// Every thread claims every key. It commits a claim that it gets or, now and then, drops it.
#[test]
fn of_all_concurrent_deliveries_of_a_key_one_is_fresh() {
    const KEYS: usize = 20_000;
    for threads in 2..=8 {
        let cache = sync::DedupCache::new(config()).unwrap();
        let commits: Vec<AtomicUsize> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (cache, commits, barrier) = (&cache, &commits, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for (number, commits) in commits.iter().enumerate() {
                        let key = number.to_le_bytes();
                        let in_process = AtomicUsize::new(0);
                        while let Claimed::Fresh(claim) = cache.claim(key, Timestamp::from_millis(5)).unwrap() {
                            in_process.fetch_add(1, SeqCst);
                            if number % 7 == thread && in_process.load(SeqCst) == 1 {
                                drop(claim);
                                continue;
                            }
                            claim.commit().unwrap();
                            commits.fetch_add(1, SeqCst);
                            break;
                        }
                    }
                });
            }
        });
        // A thread that found a claim in flight went on, and the claim may have been dropped after
        // that. So a key may be held by none.
        for (number, count) in commits.iter().enumerate() {
            let times = count.load(SeqCst);
            assert!(times <= 1, "key {number} was committed {times} times");
            let now = cache.insert(number.to_le_bytes(), Timestamp::from_millis(5)).unwrap();
            assert_eq!(now == Verdict::Duplicate, times == 1, "key {number}");
        }
        assert_eq!(cache.len(), KEYS);
        cache.validate();
    }
}

#[test]
fn concurrent_inserts_and_batches_find_each_key_fresh_once_while_the_watermark_moves() {
    const KEYS: u64 = 40_000;
    for threads in [2, 4, 8] {
        let cache = sync::DedupCache::new(config().max_keys(KEYS as usize)).unwrap();
        let fresh = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (cache, fresh) = (&cache, &fresh);
                scope.spawn(move || {
                    let mut verdicts = Vec::new();
                    for chunk in 0..KEYS / 500 {
                        let time = Timestamp::from_millis(10_000 + chunk);
                        let keys = chunk * 500..(chunk + 1) * 500;
                        if thread % 2 == 0 {
                            let batch: Vec<_> = keys.map(|key| (cache.fingerprint(key.to_le_bytes()), time)).collect();
                            cache.insert_batch(&batch, &mut verdicts).unwrap();
                        } else {
                            verdicts.clear();
                            verdicts.extend(keys.map(|key| cache.insert(key.to_le_bytes(), time).unwrap()));
                        }
                        fresh.fetch_add(verdicts.iter().filter(|verdict| **verdict == Verdict::Fresh).count(), SeqCst);
                        cache.observe(oncewheel::MinMsgTime::Known(Timestamp::from_millis(9_000 + chunk))).unwrap();
                    }
                });
            }
        });
        assert_eq!(fresh.load(SeqCst), KEYS as usize);
        cache.validate();
    }
}

#[test]
fn max_keys_is_exact_under_contention() {
    for _ in 0..20 {
        let cache = sync::DedupCache::new(config().max_keys(3_000).shards(16)).unwrap();
        let fresh = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (cache, fresh) = (&cache, &fresh);
                scope.spawn(move || {
                    for number in 0..2_000u64 {
                        match cache.insert(
                            (thread, number)
                                .0
                                .to_le_bytes()
                                .iter()
                                .chain(&number.to_le_bytes())
                                .copied()
                                .collect::<Vec<_>>(),
                            Timestamp::from_millis(5),
                        ) {
                            Ok(Verdict::Fresh) => _ = fresh.fetch_add(1, SeqCst),
                            Ok(verdict) => panic!("{verdict:?}"),
                            Err(error) => assert!(matches!(error, Error::Full { .. }), "{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!((fresh.load(SeqCst), cache.len()), (3_000, 3_000));
        assert!(matches!(cache.insert("one more", Timestamp::from_millis(5)), Err(Error::Full { .. })));
        cache.validate();
    }
}

#[test]
fn a_claim_can_cross_threads_and_outlive_its_handle() {
    fn owns_what_it_needs<T: Send + 'static>(_: &T) {}
    let cache = sync::DedupCache::new(config()).unwrap();
    let other = cache.clone();
    let Ok(Claimed::Fresh(claim)) = cache.claim("a", Timestamp::from_millis(5)) else { panic!() };
    owns_what_it_needs(&claim);
    drop(cache);
    std::thread::spawn(move || claim.commit()).join().unwrap().unwrap();
    assert_eq!(other.insert("a", Timestamp::from_millis(5)), Ok(Verdict::Duplicate));
}

#[test]
fn a_thread_that_panics_releases_its_open_claims() {
    let cache = sync::DedupCache::new(config()).unwrap();
    let in_thread = cache.clone();
    let panicked = std::thread::spawn(move || {
        let _claims: Vec<_> = (0..100u8).map(|key| in_thread.claim([key], Timestamp::from_millis(5))).collect();
        panic!("with claims open");
    });
    assert!(panicked.join().is_err());
    assert_eq!(cache.stats().claims_open, 0);
    for key in 0..100u8 {
        assert!(matches!(cache.claim([key], Timestamp::from_millis(5)), Ok(Claimed::Fresh(_))));
    }
}
